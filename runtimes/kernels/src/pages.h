// The layout `pages`, version 1: how 64 tokens of one KV head of one layer lie in the cache.
//
//   float32, float16   keys [dim][64], values [64][value_dim]
//   int8, int4         keys: a matrix of 64 rows (tokens) and dim inputs in the layout `panels`, blocks of 32, symmetric
//                      values: panels of 16 numbers and 64 inputs (tokens), the codes alone, symmetric; signed bytes, or
//                      nibbles of code + 8
//                      scales of values bfloat16 [value_groups][64]
//   summary, optional  float32 [2][dim]: between what the page's keys lie; may be wider where tokens were written again
//
// Where the model's keys have a center, what is kept of coded keys is their distance from it, turned to the middle of the
// page's positions. A page of the pool holds them for all its layers: [layers][kv_heads]. Codes and scales of a token are
// made from that token alone. Scales are rounded up to bfloat16; a token with a number that is not finite has NaN for a
// scale and no codes.
#pragma once

#include <cstdint>

#include "layout.h"

namespace edgewise {

constexpr uint32_t kPagesVersion = 1;
// Tokens of a page.
constexpr int kPageTokens = 64;

inline int64_t pages_of(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

enum class KvType : int32_t { float32, float16, int8, int4 };

// One KV head of a page: sizes and where in it each part begins, in bytes; keys begin it.
struct PageShape {
  KvType type = KvType::float32;
  int dim = 0;
  int value_dim = 0;
  // The keys as a matrix, where they are codes.
  Shape keys;
  // Numbers of a value that share a scale, their groups, and the panels of values.
  int value_group = 0;
  int value_groups = 0;
  int value_panels = 0;
  int64_t value_panel_bytes = 0;
  int64_t values_at = 0;
  int64_t scales_at = 0;
  // 0 where there is none.
  int64_t summary_at = 0;
  int64_t bytes = 0;

  bool coded() const { return type == KvType::int8 || type == KvType::int4; }
};

PageShape page_shape(KvType type, int dim, int value_dim, bool summary);

}  // namespace edgewise
