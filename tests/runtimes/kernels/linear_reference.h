// A random quantized matrix, its bytes in the layout, and its products in double precision.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "linear.h"

namespace edgewise::test {

struct Matrix {
  Shape shape;
  std::vector<uint8_t> codes;  // [rows][padded inputs]
  std::vector<float> scales;   // [rows][blocks], values that float16 holds
  std::vector<int> zeros;      // [rows][blocks]

  Matrix(const Shape& shape, Random& random);
  int code(int64_t row, int64_t input) const { return codes[row * shape.padded_inputs() + input]; }
  int zero(int64_t row, int64_t block) const { return zeros[row * shape.blocks() + block]; }
  float scale(int64_t row, int64_t block) const { return scales[row * shape.blocks() + block]; }
};

// Bytes of a matrix that end where their memory ends, from an odd address on.
class Packed {
 public:
  explicit Packed(const Matrix& matrix);
  const uint8_t* data() const { return memory_.get() + kShift; }

 private:
  static constexpr int kShift = 13;
  std::shared_ptr<uint8_t[]> memory_;
};

struct Expected {
  double value;
  // How far floats and codes that lie between two may carry a right answer away.
  double tolerance;
};

// What linear() is to give for one row of x [inputs]; norm, bias [rows] and residual [outputs] may be null.
std::vector<Expected> expected_row(const Matrix& matrix, const float* x, const float* norm, float epsilon,
                                   const float* bias, const float* residual);

}  // namespace edgewise::test
