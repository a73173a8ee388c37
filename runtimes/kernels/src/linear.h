// A quantized linear layer and an embedding over one matrix in the layout of layout.h.
#pragma once

#include <cstdint>

#include "layout.h"
#include "team.h"

namespace edgewise {

struct LinearArguments {
  const float* x = nullptr;         // [rows, shape.inputs]
  int64_t rows = 0;
  const uint8_t* weights = nullptr; // shape.bytes(); any alignment
  const float* norm = nullptr;      // [inputs], or null: x goes in as it is
  float epsilon = 0;
  const float* bias = nullptr;      // [shape.rows], or null
  const float* residual = nullptr;  // [rows, shape.outputs()], or null; may be `out`
  float* out = nullptr;             // [rows, shape.outputs()]
};

// out = W * q8(RMSnorm(x) * norm) + bias + residual; where gated silu(first half) * second half before the residual.
// Throws std::bad_alloc.
void linear(const Shape& shape, const LinearArguments& arguments, Team& team);

// What a team is to expect of this layer: units of work of so many bytes each.
struct Coming {
  int64_t unit_bytes;
  int64_t units;
};
Coming coming(const Shape& shape);

// Row `id` of the matrix as floats [shape.inputs].
void embed(const Shape& shape, const uint8_t* weights, int64_t id, float* out);

}  // namespace edgewise
