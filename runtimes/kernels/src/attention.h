// Causal grouped-query attention of several sequences over a paged cache, and the writing of new tokens into it.
#pragma once

#include <cstdint>
#include <string>

#include "pages.h"
#include "team.h"

namespace edgewise {

struct AttentionShape {
  int heads = 0;
  int kv_heads = 0;
  // Numbers of a query and of a key, and of a value.
  int dim = 0;
  int value_dim = 0;
  float scale = 0;
  // Tokens a query sees, itself among them; 0 for all.
  int64_t window = 0;
  float epsilon = 0;
  // Scores are limited softly to this; 0 for not at all.
  float cap = 0;
  // Of the layers that a page of the pool holds, which.
  int layer = 0;

  // Numbers of a token's queries, keys and values.
  int64_t width() const {
    return (static_cast<int64_t>(heads) + kv_heads) * dim + static_cast<int64_t>(kv_heads) * value_dim;
  }
  // Null, or what is wrong with it.
  const char* fault() const;
};

// Memory for pages of all sequences. A sequence's tokens [64 * i, 64 * i + 64) lie in the page that its i-th entry names.
struct Pool {
  uint8_t* data = nullptr;
  int64_t pages = 0;
  int64_t page_bytes = 0;
  KvType type = KvType::float32;
  bool summary = false;
};

struct AttentionArguments {
  const float* qkv = nullptr;         // [tokens, width]: queries, keys, values; sequence behind sequence
  int64_t tokens = 0;
  int64_t sequences = 0;
  const int32_t* starts = nullptr;    // [sequences + 1]: where each sequence's new tokens begin; the last is `tokens`
  const int32_t* held = nullptr;      // [sequences]: tokens held already
  const int32_t* table = nullptr;     // [sequences, table_width]: pages; those that no token sees are not looked at
  int64_t table_width = 0;
  Pool pool;
  const float* query_norm = nullptr;  // [dim], or null
  const float* key_norm = nullptr;
  int64_t positions = 0;              // of the rotary table, at least the tokens of the longest sequence
  const float* cos = nullptr;         // [positions, dim / 2], or null: no rotary embedding
  const float* sin = nullptr;
  const float* center = nullptr;      // [kv_heads, dim], or null: about where keys lie before they are turned
  const float* sinks = nullptr;       // [heads], or null: a score that takes weight and has no value
  float* out = nullptr;               // [tokens, heads * value_dim]
};

// Empty, or why the sizes, the starts or the table do not fit; nothing is read or written beyond them.
std::string fault(const AttentionShape& shape, const AttentionArguments& arguments);

// For arguments without fault; pages that are written are of one sequence each. Throws std::bad_alloc; where a helper of
// the team has no memory, the process ends.
void attention(const AttentionShape& shape, const AttentionArguments& arguments, Team& team);

}  // namespace edgewise
