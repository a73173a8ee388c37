// What an instruction set has to offer: a table of functions, one table a set.
#pragma once

#include <cstdint>

#include "layout.h"
#include "pages.h"

namespace edgewise {

// Rows of activations that are multiplied in one pass over the weights.
constexpr int kMostRows = 128;
// Most rows of a tile in any instruction set.
constexpr int kMostTileRows = 8;

// A kernel takes a group of inputs in steps of 4.
constexpr int kSteps = kGroup / 4;

// The lowest `bits` of either half of a byte.
template <int bits>
constexpr uint8_t kLowest = ((1 << bits) - 1) * 0x11;

// Weights are brought near so many bytes ahead of those being multiplied, or more.
constexpr int64_t kAheadBytes = 12 << 10;

// Rows of activations that are multiplied together.
struct Tile {
  int first;
  int rows;
};

// `rows` in `count` tiles, as equal as they come: the first `longer` have one row more.
struct Tiles {
  int count = 0;
  int rows = 0;
  int longer = 0;

  static Tiles of(int rows, int most) {
    const int count = (rows + most - 1) / most;
    return {count, rows / count, rows % count};
  }
  Tile operator[](int i) const { return {i * rows + (i < longer ? i : longer), rows + (i < longer)}; }
};

// Activations of up to kMostRows rows as the kernels read them, tile by tile, in a tile block by block. The zero point is
// taken out by integers: `less` holds minus the sum of a block's codes, where the matrix is symmetric times what the
// instruction set leaves of its zero point.
struct Activations {
  Tiles tiles;
  int8_t* codes = nullptr;  // of each tile [blocks][rows][block]
  float* scales = nullptr;  // of each tile [blocks][rows]
  int32_t* less = nullptr;  // of each tile [blocks][rows]
};

// A matrix in the layout of layout.h with what is added to its products, and where they go.
struct Product {
  const Shape& shape;
  const uint8_t* weights;
  const float* bias;                // [shape.rows], or null
  const float* residual = nullptr;  // [rows, outputs], or null; may be `out`
  float* out = nullptr;             // [rows, outputs]
  // Worked out once, with their divisions.
  int64_t outputs = shape.outputs();
  int64_t blocks = shape.blocks();
  int64_t panels = shape.panels();
  int64_t panel_bytes = shape.panel_bytes();
  // From a pair of panels to the one that is brought near meanwhile: the next, or a later one where they are short.
  int64_t ahead = (kAheadBytes / (2 * panel_bytes) + 1) * 2 * panel_bytes;
  // Where scales and zero points begin in a panel.
  int64_t scales_at = shape.code_bytes();
  int64_t zeros_at = scales_at + shape.scale_bytes();
};

// Query rows, each a head of a token, that attend to a page in one call.
constexpr int kBlockRows = 48;

// One KV head of one page. `cap` limits scores softly, 0 does not.
struct Page {
  const PageShape& shape;
  const uint8_t* data;
  float cap;
  // What is to be added to the keys [dim], or null.
  const float* center;
  // From here to the page that is attended to next, in bytes: brought near meanwhile.
  int64_t ahead;
};

constexpr float kLog2E = 1.44269504088896341f;

// Queries of a KV head, times the scale of attention and log2(e): floats [rows][dim], and codes where the page's keys are.
struct Queries {
  float* floats = nullptr;
  Activations codes;
};

// What attention has of a row so far: values [padded], maximum, sum, and nothing up to a whole line.
constexpr int kStateEnd = 16;
inline int64_t state_stride(int value_dim) { return (value_dim + 15) / 16 * 16 + kStateEnd; }

struct Kernels {
  const char* name;
  int tile_rows;
  // Row `row` of a tile of activations from float x [inputs], RMS-normed and times `norm` where that is given.
  void (*quantize)(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, Tile tile,
                   int row);
  // Outputs of all tiles for the pairs of panels [begin, end): gate and up, or neighbours.
  void (*multiply)(const Product& product, const Activations& a, int64_t begin, int64_t end);
  // See keep.h.
  void (*turn)(const float* x, const float* norm, float epsilon, const float* cos, const float* sin, int dim, float* out);
  void (*keep)(const PageShape& shape, uint8_t* page, int token, const float* key, const float* value);
  void (*turn_kept)(const PageShape& shape, uint8_t* page, int token, const float* cos, const float* sin, float* memory);
  // See attend.h.
  void (*attend_page)(const Page& page, int rows, const Queries& queries, const int* first, const int* last,
                      float* partial);
  void (*merge)(int rows, const int* first, const int* last, float* states, const float* partials, int64_t stride);
};

extern const Kernels kPlain;
extern const Kernels kAvx2;
extern const Kernels kAvxVnni;
extern const Kernels kAvx512Vnni;
extern const Kernels kNeon;
extern const Kernels kNeonDot;
extern const Kernels kNeonI8mm;

}  // namespace edgewise
