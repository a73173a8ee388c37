// bfloat16 and half precision. Of internal linkage: each instruction set's source compiles them for its own CPU.
#pragma once

#include <cstdint>

namespace edgewise {
namespace {

inline uint16_t bfloat16_up(float positive) {
  uint32_t bits;
  __builtin_memcpy(&bits, &positive, 4);
  return static_cast<uint16_t>((bits + 0xffff) >> 16);
}
inline float from_bfloat16(uint16_t upper) {
  const uint32_t bits = static_cast<uint32_t>(upper) << 16;
  float v;
  __builtin_memcpy(&v, &bits, 4);
  return v;
}

// IEEE 754 half precision, ties to even; beyond 65504 the nearest that is finite.
inline uint16_t to_half(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, 4);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  if (bits > 0x7f800000) return sign | 0x7e00;
  if (bits == 0x7f800000) return sign | 0x7c00;
  if (bits >= 0x477fe000) return sign | 0x7bff;
  float magnitude;
  __builtin_memcpy(&magnitude, &bits, 4);
  if (bits < 0x38800000) {
    // Below the least normal half: the sum's last bit is the least of halves.
    magnitude += 0.5f;
    __builtin_memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | (bits - 0x38000000) >> 13);
}

// What to_half was given, as near as it was kept.
inline float of_half(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half & 0x7fff) << 13;
  float magnitude;
  __builtin_memcpy(&magnitude, &bits, 4);
  // 2^112 takes the exponent from a half's bias to a float's, also below the least normal half.
  magnitude *= 5192296858534827628530496329220096.0f;
  if ((half & 0x7fff) >= 0x7c00) magnitude = (half & 0x3ff) ? __builtin_nanf("") : __builtin_inff();
  return half & 0x8000 ? -magnitude : magnitude;
}

}  // namespace
}  // namespace edgewise
