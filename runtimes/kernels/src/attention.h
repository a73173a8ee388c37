// Causal grouped-query attention over the KV cache of one sequence, and the writing of new tokens into it.
#pragma once

#include <cstdint>

#include "team.h"

namespace edgewise {

struct AttentionShape {
  int heads = 0;
  int kv_heads = 0;
  int dim = 0;
  float scale = 0;
  // Tokens a query sees, itself among them; 0 for all.
  int64_t window = 0;
  float epsilon = 0;
};

struct AttentionArguments {
  const float* qkv = nullptr;     // [tokens, (heads + 2 * kv_heads) * dim]: queries, keys, values
  int64_t tokens = 0;
  int64_t past = 0;               // tokens held already
  float* keys = nullptr;          // [kv_heads, capacity / 64, dim, 64]
  float* values = nullptr;        // [kv_heads, capacity, dim]
  int64_t capacity = 0;           // a multiple of 64, at least past + tokens
  const float* query_norm = nullptr;  // [dim], or null
  const float* key_norm = nullptr;
  const float* cos = nullptr;     // [positions, dim / 2], or null: no rotary embedding
  const float* sin = nullptr;
  float* out = nullptr;           // [tokens, heads * dim]
};

// Throws std::bad_alloc, before anything is written.
void attention(const AttentionShape& shape, const AttentionArguments& arguments, Team& team);

}  // namespace edgewise
