// What the sets for 64-bit Arm have in common: 4 rows a 128-bit vector.
#pragma once

#include <arm_neon.h>

#include "kernels.h"
#include "short_floats.h"

namespace edgewise {
namespace {

struct LanesNeon {
  static constexpr int width = 4;
  static constexpr int vector_bytes = 16;
  // Twenty-four sums of the 32 registers.
  static constexpr int attend_rows = 6;
  using Codes = uint8x16_t;
  using Four = int8x8_t;
  using Real = float32x4_t;
  using Whole = int32x4_t;
  using Ints = int32x4_t;
  using Floats = float32x4_t;

  static Codes load(const uint8_t* p) { return vld1q_u8(p); }
  // Dot products take one lane for all rows.
  static Four broadcast(const int8_t* a) { return vcreate_s8(four_bytes(a)); }
  static uint32_t four_bytes(const void* p) {
    uint32_t four;
    __builtin_memcpy(&four, p, 4);
    return four;
  }
  static Codes low(Codes c) { return vandq_u8(c, vdupq_n_u8(15)); }
  static Codes high(Codes c) { return vshrq_n_u8(c, 4); }
  template <int upper>
  static Codes low(Codes c, Codes u) {
    return vsliq_n_u8(c, lowest<upper>(u), 4);
  }
  template <int upper>
  static Codes high(Codes c, Codes u) {
    return vsriq_n_u8(lowest<upper>(u), c, 4);
  }
  template <int upper>
  static Codes next(Codes u) {
    return vshrq_n_u8(u, upper);
  }
  template <int upper>
  static Codes lowest(Codes u) {
    return vandq_u8(u, vdupq_n_u8(kLowest<upper>));
  }
  // What a product of signed bytes takes: codes of up to 6 bits as they are, those of 8 less 128.
  static int8x16_t signed_codes(Codes c) { return vreinterpretq_s8_u8(c); }
  static int8x16_t less_128(Codes c) { return signed_codes(veorq_u8(c, vdupq_n_u8(128))); }

  template <Scale kind>
  static Floats scales(const uint8_t* p) {
    const uint16x4_t halves = vreinterpret_u16_u8(vld1_u8(p));
    if constexpr (kind == Scale::float16) return vcvt_f32_f16(vreinterpret_f16_u16(halves));
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(halves), 16));
  }
  // Rows 0 to 7 are low nibbles, 8 to 15 high ones.
  static Ints zeros4(const uint8_t* p, int part) {
    const Ints both = zeros8(p + part % 2 * width);
    return vandq_s32(part < 2 ? both : vshrq_n_s32(both, 4), vdupq_n_s32(15));
  }
  static Ints zeros8(const uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four_bytes(p))))));
  }

  static Ints splat(int32_t x) { return vdupq_n_s32(x); }
  static Ints plus(Ints a, Ints b) { return vaddq_s32(a, b); }
  static Ints minus(Ints a, Ints b) { return vsubq_s32(a, b); }
  static Ints times(Ints a, int32_t x) { return vmulq_n_s32(a, x); }
  static Floats floats(Ints a) { return vcvtq_f32_s32(a); }
  static Floats plus(Floats a, Floats b) { return vaddq_f32(a, b); }
  static Floats product(Floats a, Floats b) { return vmulq_f32(a, b); }
  static Floats scaled(Floats a, float x) { return vmulq_n_f32(a, x); }

  static void store(float* p, Floats v) { vst1q_f32(p, v); }

  static float highest(Real v) { return vmaxvq_f32(v); }
  static float fold(Real v) { return vpadds_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v))); }
  static int32_t highest(Whole v) { return vmaxvq_s32(v); }
  static int32_t sum(Whole v) { return vaddvq_s32(v); }
  static void store_bytes(int8_t* p, Whole v) {
    const int16x4_t shorts = vmovn_s32(v);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(shorts, shorts));
    __builtin_memcpy(p, &bytes, 4);
  }
};

}  // namespace
}  // namespace edgewise
