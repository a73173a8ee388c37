// NEON with the dot product of unsigned and signed bytes (ARMv8.6 I8MM): 8-bit codes go in as they lie.
#include "lanes_neon.h"

namespace edgewise {
namespace {

struct Lanes : LanesNeon {
  // Sixteen sums, and room for a step's codes and activations.
  static constexpr int tile_rows = 4, pair_rows = 2;
  static constexpr int offset(int) { return 0; }
  static constexpr int steps(int) { return kSteps; }
  template <int bits>
  struct Dot {
    int32x4_t total;
    Dot() = default;
    explicit Dot(Ints start) : total(start) {}
    void add(uint8x16_t codes, int8x8_t a) { total = vusdotq_lane_s32(total, codes, a, 0); }
    int32x4_t sum() const { return total; }
  };
  static constexpr int weight_planes = 1;
  struct Weighed {
    int32x4_t total;
    Weighed() = default;
    explicit Weighed(Ints start) : total(start) {}
    void add(uint8x16_t values, int8x8_t weights) {
      total = vsudotq_lane_s32(total, signed_codes(values), vreinterpret_u8_s8(weights), 0);
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

const Kernels kNeonI8mm = {"neoni8mm", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
