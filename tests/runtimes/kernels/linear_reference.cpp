#include "linear_reference.h"

#include <algorithm>
#include <cmath>

namespace edgewise::test {
namespace {

// A multiple of the last bit that float16 has for a number of this size, below 2^-14 of the least one.
float float16(float v) {
  const int last = std::max(std::ilogb(v == 0 ? 1 : v), -14) - 10;
  return std::ldexp(std::trunc(std::ldexp(v, -last)), last);
}

uint16_t float16_bits(float v) {
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  const float size = std::fabs(v);
  if (size < std::ldexp(1.0f, -14)) return sign | static_cast<uint16_t>(std::ldexp(size, 24));
  const int exponent = std::ilogb(size);
  return sign | static_cast<uint16_t>(((exponent + 15) << 10) + static_cast<int>(std::ldexp(size, 10 - exponent)) - 1024);
}

struct Block {
  double scale = 0;
  std::vector<int> codes;
  // For each input, by how much its code may be off: 1 where a float's error can tip the rounding.
  std::vector<int> doubtful;
};

std::vector<Block> quantized(const Shape& shape, const float* x, const float* norm, float epsilon) {
  double squares = 0;
  for (int64_t i = 0; i < shape.inputs; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double factor = norm ? 1 / std::sqrt(squares / static_cast<double>(shape.inputs) + epsilon) : 1;
  std::vector<Block> blocks(shape.blocks());
  for (int64_t b = 0; b < shape.blocks(); ++b) {
    Block& block = blocks[b];
    std::vector<double> values(shape.block);
    double largest = 0;
    for (int64_t i = 0; i < shape.block && b * shape.block + i < shape.inputs; ++i) {
      const int64_t at = b * shape.block + i;
      values[i] = norm ? x[at] * factor * norm[at] : x[at];
      largest = std::max(largest, std::fabs(values[i]));
    }
    // Below this a block counts as zero.
    if (static_cast<float>(largest) < 1e-35f) largest = 0;
    block.scale = largest / 127;
    for (double v : values) {
      const double exact = largest > 0 ? v / block.scale : 0;
      block.codes.push_back(static_cast<int>(std::lrint(exact)));
      block.doubtful.push_back(std::fabs(std::fabs(exact - std::floor(exact)) - 0.5) < 2e-4);
    }
  }
  return blocks;
}

Expected product(const Matrix& matrix, int64_t row, const std::vector<Block>& blocks) {
  Expected y{0, 0};
  double size = 0;
  for (int64_t b = 0; b < matrix.shape.blocks(); ++b) {
    int64_t sum = 0, doubt = 0;
    for (int64_t i = 0; i < matrix.shape.block; ++i) {
      const int weight = matrix.code(row, b * matrix.shape.block + i) - matrix.zero(row, b);
      sum += weight * blocks[b].codes[i];
      doubt += std::abs(weight) * blocks[b].doubtful[i];
    }
    const double unit = blocks[b].scale * matrix.scale(row, b);
    y.value += unit * static_cast<double>(sum);
    y.tolerance += std::fabs(unit) * static_cast<double>(doubt);
    size += std::fabs(unit * static_cast<double>(sum));
  }
  y.tolerance += 4e-6 * size + 1e-30;
  return y;
}

void add(Expected& y, double what) {
  y.value += what;
  y.tolerance += 2e-7 * (std::fabs(what) + std::fabs(y.value));
}

}  // namespace

Matrix::Matrix(const Shape& s, Random& random) : shape(s) {
  const int top = (1 << s.bits) - 1, middle = 1 << (s.bits - 1);
  // Now and then all codes at an end, where sums are largest.
  const int64_t kind = random.whole(0, 9);
  for (int64_t row = 0; row < s.rows; ++row) {
    for (int64_t b = 0; b < s.blocks(); ++b) {
      const int any = static_cast<int>(random.whole(0, top));
      zeros.push_back(s.zero_points ? kind == 0 ? 0 : kind == 1 ? top : any : middle);
      const float scale = kind == 2 && random.chance() ? 0.0f : float16(random.normal() * (kind == 3 ? 1e-5f : 0.1f));
      scales.push_back(scale);
      for (int64_t i = 0; i < s.block; ++i) {
        const int code = kind == 0 ? top : kind == 1 ? 0 : static_cast<int>(random.whole(0, top));
        codes.push_back(static_cast<uint8_t>(b * s.block + i < s.inputs ? code : zeros.back()));
      }
    }
  }
}

namespace {

// Puts the code of row `lane` and input i into a panel of zeros.
void put_code(uint8_t* panel, int bits, int64_t lane, int64_t i, int code) {
  const int64_t at = 4 * lane + i % 4;
  const int half = i % 8 < 4 ? 0 : 4;
  const auto put = [&](int64_t byte, int value) { panel[byte + at] |= static_cast<uint8_t>(value); };
  if (bits == 8) return put(i / 4 * 64, code);
  if (bits == 4) return put(i / 8 * 64, code << half);
  // Lines of lower bits behind one of upper bits, and the first of these lines.
  const int64_t lines = 4 / (bits - 4), first = i / 8 / lines * (lines + 1) * 64;
  put(first, code >> 4 << (half + i / 8 % lines * (bits - 4)));
  put(first + 64 + i / 8 % lines * 64, (code & 15) << half);
}

}  // namespace

Packed::Packed(const Matrix& m) : memory_(new uint8_t[kShift + m.shape.bytes()]()) {
  const Shape& s = m.shape;
  const int64_t half = s.outputs();
  for (int64_t row = 0; row < s.rows; ++row) {
    const int64_t within = row % half, lane = within % kPanelRows;
    const int64_t panel = s.gated ? within / kPanelRows * 2 + row / half : within / kPanelRows;
    uint8_t* bytes = memory_.get() + kShift + panel * s.panel_bytes();
    for (int64_t i = 0; i < s.padded_inputs(); ++i) {
      const int code = m.code(row, i);
      put_code(bytes, s.bits, lane, i, code);
    }
    for (int64_t b = 0; b < s.blocks(); ++b) {
      const float scale = m.scale(row, b);
      const uint16_t bits = float16_bits(scale);
      uint8_t* scales = bytes + s.code_bytes() + (b * kPanelRows + lane) * 2;
      scales[0] = static_cast<uint8_t>(bits);
      scales[1] = static_cast<uint8_t>(bits >> 8);
      if (!s.zero_points) continue;
      uint8_t* zeros = bytes + s.code_bytes() + s.scale_bytes();
      if (s.bits == 4)
        zeros[b * 8 + lane % 8] |= static_cast<uint8_t>(m.zero(row, b) << (lane < 8 ? 0 : 4));
      else
        zeros[b * 16 + lane] = static_cast<uint8_t>(m.zero(row, b));
    }
  }
}

std::vector<Expected> expected_row(const Matrix& matrix, const float* x, const float* norm, float epsilon,
                                   const float* bias, const float* residual) {
  const Shape& s = matrix.shape;
  const std::vector<Block> blocks = quantized(s, x, norm, epsilon);
  std::vector<Expected> out;
  for (int64_t o = 0; o < s.outputs(); ++o) {
    Expected y = product(matrix, o, blocks);
    if (bias) add(y, bias[o]);
    if (s.gated) {
      Expected up = product(matrix, s.outputs() + o, blocks);
      if (bias) add(up, bias[s.outputs() + o]);
      const double silu = y.value / (1 + std::exp(-y.value));
      // The slope of silu is below 1.1.
      const double off = 1.1 * y.tolerance + 1e-6 * std::fabs(silu) + 1e-30;
      y.tolerance = off * std::fabs(up.value) + std::fabs(silu) * up.tolerance + off * up.tolerance;
      y.value = silu * up.value;
    }
    if (residual) add(y, residual[o]);
    out.push_back(y);
  }
  return out;
}

}  // namespace edgewise::test
