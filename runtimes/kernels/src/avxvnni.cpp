// AVX-VNNI: 8 rows a vector, four products of 8 bits summed in one instruction.
#include "lanes_256.h"

namespace edgewise {
namespace {

struct Lanes : Lanes256 {
  static constexpr int offset(int) { return 0; }
  static constexpr int steps(int) { return kSteps; }
  template <int bits>
  struct Dot {
    __m256i total;
    Dot() = default;
    explicit Dot(Ints start) : total(start) {}
    void add(__m256i codes, __m256i a) { total = _mm256_dpbusd_avx_epi32(total, codes, a); }
    __m256i sum() const { return total; }
  };
  static constexpr int weight_planes = 1;
  struct Weighed {
    __m256i total;
    Weighed() = default;
    explicit Weighed(Ints start) : total(start) {}
    void add(__m256i values, __m256i weights) { total = _mm256_dpbusd_avx_epi32(total, weights, values); }
    __m256i sum() const { return total; }
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

const Kernels kAvxVnni = {"avxvnni", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
