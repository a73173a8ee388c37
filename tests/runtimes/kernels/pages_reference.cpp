#include "pages_reference.h"

#include <cmath>
#include <cstring>

namespace edgewise::test {
namespace {

double half(const uint8_t* at) {
  uint16_t h;
  std::memcpy(&h, at, 2);
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const double sign = h >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? std::nan("") : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24));
}

double single(const uint8_t* at) {
  float v;
  std::memcpy(&v, at, 4);
  return v;
}

double bfloat16(const uint8_t* at) {
  const uint8_t whole[4] = {0, 0, at[0], at[1]};
  return single(whole);
}

void add_float(Numbers& to, KvType type, const uint8_t* part, int64_t index) {
  const double v = type == KvType::float32 ? single(part + 4 * index) : half(part + 2 * index);
  to.values.push_back(v);
  to.steps.push_back(type == KvType::float32 ? 0 : std::fabs(v) * 0x1p-11 + 0x1p-25);
}

// Code of row `row` and input `input` in a panel of 16 rows.
int code(const uint8_t* panel, int bits, int row, int input) {
  if (bits == 8) return panel[input / 4 * 64 + row * 4 + input % 4] - 128;
  const uint8_t byte = panel[input / 8 * 64 + row * 4 + input % 4];
  return (input % 8 < 4 ? byte & 15 : byte >> 4) - 8;
}

void add_code(Numbers& to, int code, double scale) {
  to.values.push_back(code * scale);
  // Ties, and products rounded to a float.
  to.steps.push_back(scale * (0.5 + 1e-4));
}

}  // namespace

Numbers read_key(const PageShape& s, const uint8_t* page, int token) {
  Numbers out;
  for (int d = 0; d < s.dim; ++d) {
    if (!s.coded()) {
      add_float(out, s.type, page, d * kPageTokens + token);
      continue;
    }
    const uint8_t* panel = page + token / 16 * s.keys.panel_bytes();
    const double scale = bfloat16(panel + s.keys.code_bytes() + (d / 32 * 16 + token % 16) * 2);
    add_code(out, code(panel, s.keys.bits, token % 16, d), scale);
  }
  return out;
}

Numbers read_value(const PageShape& s, const uint8_t* page, int token) {
  Numbers out;
  for (int d = 0; d < s.value_dim; ++d) {
    if (!s.coded()) {
      add_float(out, s.type, page + s.values_at, static_cast<int64_t>(token) * s.value_dim + d);
      continue;
    }
    const uint8_t* panel = page + s.values_at + d / 16 * s.value_panel_bytes;
    const double scale = bfloat16(page + s.scales_at + (d / s.value_group * kPageTokens + token) * 2);
    const int unsigned_code = code(panel, s.keys.bits, d % 16, token);
    // Bytes of values are signed.
    add_code(out, s.keys.bits == 8 ? static_cast<int8_t>(unsigned_code + 128) : unsigned_code, scale);
  }
  return out;
}

}  // namespace edgewise::test
