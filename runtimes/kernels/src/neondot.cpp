// NEON with the dot product of signed bytes (ARMv8.2 DotProd): four products summed in one instruction.
#include "lanes_neon.h"

namespace edgewise {
namespace {

struct Lanes : LanesNeon {
  // Sixteen sums, and room for a step's codes and activations.
  static constexpr int tile_rows = 4, pair_rows = 2;
  static constexpr int offset(int bits) { return bits == 8 ? 128 : 0; }
  static constexpr int steps(int) { return kSteps; }
  template <int bits>
  struct Dot {
    int32x4_t total;
    Dot() = default;
    explicit Dot(Ints start) : total(start) {}
    void add(uint8x16_t codes, int8x8_t a) {
      total = vdotq_lane_s32(total, bits == 8 ? less_128(codes) : signed_codes(codes), a, 0);
    }
    int32x4_t sum() const { return total; }
  };
  static constexpr int weight_planes = 2;
  struct Weighed {
    int32x4_t total;
    Weighed() = default;
    explicit Weighed(Ints start) : total(start) {}
    void add(uint8x16_t values, int8x8_t weights) {
      total = vdotq_lane_s32(total, signed_codes(values), weights, 0);
    }
    int32x4_t sum() const { return total; }
  };
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

const Kernels kNeonDot = {"neondot", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
