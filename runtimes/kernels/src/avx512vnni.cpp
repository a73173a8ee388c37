// AVX-512 with VNNI: all 16 rows of a panel in one vector.
#include "lanes_256.h"

namespace edgewise {
namespace {

struct Lanes {
  static constexpr int width = 16;
  static constexpr int vector_bytes = 64;
  // Twelve sums of integers, twelve of floats.
  static constexpr int tile_rows = 6, pair_rows = 6;
  static constexpr int attend_rows = 6;
  using Codes = __m512i;
  using Four = __m512i;
  using Real = __m512;
  using Whole = __m512i;
  using Ints = __m512i;
  using Floats = __m512;

  static Codes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static Four broadcast(const int8_t* a) {
    int32_t four;
    __builtin_memcpy(&four, a, 4);
    return _mm512_set1_epi32(four);
  }
  static Codes low(Codes c) { return _mm512_and_si512(c, _mm512_set1_epi8(15)); }
  static Codes high(Codes c) { return low(_mm512_srli_epi16(c, 4)); }
  template <int upper>
  static Codes low(Codes c, Codes u) {
    return below(c, _mm512_slli_epi16(lowest<upper>(u), 4));
  }
  template <int upper>
  static Codes high(Codes c, Codes u) {
    return below(_mm512_srli_epi16(c, 4), lowest<upper>(u));
  }
  template <int upper>
  static Codes next(Codes u) {
    return _mm512_srli_epi16(u, upper);
  }
  template <int upper>
  static Codes lowest(Codes u) {
    return _mm512_and_si512(u, _mm512_set1_epi8(kLowest<upper>));
  }
  // The low nibbles of c under the high ones of u.
  static Codes below(Codes c, Codes u) {
    return _mm512_ternarylogic_epi32(u, _mm512_set1_epi8(15), c, 0xb8);
  }

  template <Scale kind>
  static Floats scales(const uint8_t* p) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    if constexpr (kind == Scale::float16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static Ints zeros4(const uint8_t* p, int) {
    const __m128i both = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m128i mask = _mm_set1_epi8(15);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
    return _mm512_cvtepu8_epi32(_mm_unpacklo_epi64(_mm_and_si128(both, mask), high));
  }
  static Ints zeros8(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  static Ints splat(int32_t x) { return _mm512_set1_epi32(x); }
  static Ints plus(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static Ints minus(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  static Ints times(Ints a, int32_t x) { return _mm512_mullo_epi32(a, splat(x)); }
  static Floats floats(Ints a) { return _mm512_cvtepi32_ps(a); }
  static Floats plus(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats product(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats scaled(Floats a, float x) { return _mm512_mul_ps(a, _mm512_set1_ps(x)); }

  static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }

  // Halves onto halves, and on as with 256 bits.
  static __m256i upper(Whole v) { return _mm512_extracti64x4_epi64(v, 1); }
  static __m256 upper(Real v) { return _mm256_castsi256_ps(upper(_mm512_castps_si512(v))); }
  static float highest(Real v) { return Lanes256::highest(_mm256_max_ps(_mm512_castps512_ps256(v), upper(v))); }
  static float fold(Real v) { return Lanes256::fold(_mm256_add_ps(_mm512_castps512_ps256(v), upper(v))); }
  static int32_t highest(Whole v) {
    return Lanes256::highest(_mm256_max_epi32(_mm512_castsi512_si256(v), upper(v)));
  }
  static int32_t sum(Whole v) { return Lanes256::sum(_mm256_add_epi32(_mm512_castsi512_si256(v), upper(v))); }
  static void store_bytes(int8_t* p, Whole v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }

  static constexpr int offset(int) { return 0; }
  static constexpr int steps(int) { return kSteps; }
  template <int bits>
  struct Dot {
    __m512i total;
    Dot() = default;
    explicit Dot(Ints start) : total(start) {}
    void add(__m512i codes, __m512i a) { total = _mm512_dpbusd_epi32(total, codes, a); }
    __m512i sum() const { return total; }
  };
  static constexpr int weight_planes = 1;
  struct Weighed {
    __m512i total;
    Weighed() = default;
    explicit Weighed(Ints start) : total(start) {}
    void add(__m512i values, __m512i weights) { total = _mm512_dpbusd_epi32(total, weights, values); }
    __m512i sum() const { return total; }
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

const Kernels kAvx512Vnni = {"avx512vnni", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
