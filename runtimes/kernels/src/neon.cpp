// NEON of every 64-bit Arm: products of 8 bits are summed in 16.
#include "lanes_neon.h"

namespace edgewise {
namespace {

struct Lanes : LanesNeon {
  // Eight sums of 4-bit codes, two registers each.
  static constexpr int tile_rows = 2, pair_rows = 1;
  using Four = int8x16_t;
  static Four broadcast(const int8_t* a) { return vreinterpretq_s8_u32(vdupq_n_u32(four_bytes(a))); }
  static constexpr int offset(int bits) { return bits == 8 ? 128 : 0; }
  static constexpr int steps(int bits) { return bits == 8 ? kSteps : 128 >> bits; }
  // So many steps fit 16 bits, two sums of them as well: 2 * 8 * 15 * 127 = 30480, 2 * 4 * 31 * 127 = 31496,
  // 2 * 2 * 63 * 127 = 32004.
  template <int bits>
  struct Dot {
    int16x8_t first, last;  // two rows each
    int32x4_t start;
    Dot() = default;
    explicit Dot(Ints start) : first(vdupq_n_s16(0)), last(first), start(start) {}
    void add(uint8x16_t codes, int8x16_t a) {
      const int8x16_t c = signed_codes(codes);
      first = vmlal_s8(first, vget_low_s8(c), vget_low_s8(a));
      last = vmlal_high_s8(last, c, a);
    }
    int32x4_t sum() const { return vpadalq_s16(start, vpaddq_s16(first, last)); }
  };
  static constexpr int weight_planes = 2;
  // A pair of the larger plane fits 16 bits: 2 * 128 * 127 = 32512.
  struct Weighed {
    int32x4_t total;
    Weighed() = default;
    explicit Weighed(Ints start) : total(start) {}
    void add(uint8x16_t values, int8x16_t weights) {
      const int8x16_t v = signed_codes(values);
      const int16x8_t first = vmull_s8(vget_low_s8(v), vget_low_s8(weights));
      total = vpadalq_s16(total, vpaddq_s16(first, vmull_high_s8(v, weights)));
    }
    int32x4_t sum() const { return total; }
  };
};

// Codes less 128, so that a pair fits 16 bits: 2 * 128 * 127 = 32512.
template <>
struct Lanes::Dot<8> {
  int32x4_t total;
  Dot() = default;
  explicit Dot(Ints start) : total(start) {}
  void add(uint8x16_t codes, int8x16_t a) {
    const int8x16_t c = less_128(codes);
    const int16x8_t first = vmull_s8(vget_low_s8(c), vget_low_s8(a));
    total = vpadalq_s16(total, vpaddq_s16(first, vmull_high_s8(c, a)));
  }
  int32x4_t sum() const { return total; }
};

#include "vectors.h"
#include "activations.h"
#include "keep.h"
#include "multiply.h"
#include "outputs.h"
#include "attend_floats.h"
#include "attend_codes.h"
#include "attend.h"

}  // namespace

const Kernels kNeon = {"neon", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
