// AVX2: 8 rows a vector. There is no 8-bit dot product: pairs of products are summed in 16 bits.
#include "lanes_256.h"

namespace edgewise {
namespace {

struct Lanes : Lanes256 {
  static constexpr int offset(int bits) { return bits == 8 ? 128 : 0; }
  static constexpr int steps(int bits) { return bits == 8 ? kSteps : 128 >> bits; }
  // So many steps fit 16 bits: 8 * 2 * 15 * 127 = 30480, 4 * 2 * 31 * 127 = 31496, 2 * 2 * 63 * 127 = 32004.
  template <int bits>
  struct Dot {
    __m256i total, start;
    Dot() = default;
    explicit Dot(Ints start) : total(_mm256_setzero_si256()), start(start) {}
    void add(__m256i codes, __m256i a) { total = _mm256_add_epi16(total, _mm256_maddubs_epi16(codes, a)); }
    __m256i sum() const { return _mm256_add_epi32(start, _mm256_madd_epi16(total, _mm256_set1_epi16(1))); }
  };
  static constexpr int weight_planes = 2;
  // A pair of the larger plane fits 16 bits: 2 * 128 * 127 = 32512.
  struct Weighed {
    __m256i total;
    Weighed() = default;
    explicit Weighed(Ints start) : total(start) {}
    void add(__m256i values, __m256i weights) {
      const __m256i pairs = _mm256_maddubs_epi16(weights, values);
      total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    __m256i sum() const { return total; }
  };
};

// Codes less 128 as sign and magnitude, so that a pair fits 16 bits: 2 * 128 * 127 = 32512.
template <>
struct Lanes::Dot<8> {
  __m256i total;
  Dot() = default;
  explicit Dot(Ints start) : total(start) {}
  void add(__m256i codes, __m256i a) {
    const __m256i c = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(c), _mm256_sign_epi8(a, c));
    total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  __m256i sum() const { return total; }
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

const Kernels kAvx2 = {"avx2", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
