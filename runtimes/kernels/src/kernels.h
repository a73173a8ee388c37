// What an instruction set has to offer: a table of functions, one table a set.
#pragma once

#include <cstdint>

#include "layout.h"

namespace edgewise {

// Rows of activations that are multiplied in one pass over the weights.
constexpr int kTileRows = 128;

// Activations of up to kTileRows rows as the kernels read them: for every block the codes of all rows, then the next.
// The zero point is taken out by integers: sums hold the sum of a block's codes, where the matrix is symmetric times
// what the instruction set leaves of its zero point.
struct Activations {
  int rows = 0;
  int8_t* codes = nullptr;    // [blocks][rows][block]
  float* scales = nullptr;    // [blocks][rows]
  int32_t* sums = nullptr;    // [blocks][rows]
};

// Tokens of a page of the KV cache: keys [dim][kPageTokens], values [kPageTokens][dim].
constexpr int kPageTokens = 64;
// Query rows, each a head of a token, that attend to a page in one call.
constexpr int kBlockRows = 48;

struct Page {
  const float* keys;
  const float* values;
  int dim;
  float scale;
};

struct Kernels {
  const char* name;
  // Row `row` of the activations from float x [inputs], RMS-normed and times `norm` where that is given.
  void (*quantize)(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, int row);
  // Products of all rows of `a` with one panel: out [rows][16].
  void (*multiply)(const Shape& shape, const uint8_t* panel, const Activations& a, float* out);
  // gate [n] becomes silu(gate) * up; n is a multiple of 16.
  void (*gate)(float* gate, const float* up, int64_t n);
  // See attend.h.
  void (*attend_page)(const Page& page, int rows, const float* queries, const int* first, const int* last, float* partial);
  void (*merge)(float* state, const float* partial, int dim);
  void (*turn)(const float* x, const float* norm, float epsilon, const float* cos, const float* sin, int dim, float* out);
};

extern const Kernels kPlain;
extern const Kernels kAvx2;
extern const Kernels kAvxVnni;
extern const Kernels kAvx512Vnni;

}  // namespace edgewise
