// What AVX2 and AVX-VNNI have in common: 8 rows a 256-bit vector. AVX-512 folds its halves with it.
#pragma once

#include <immintrin.h>

#include "kernels.h"
#include "short_floats.h"

namespace edgewise {
namespace {

struct Lanes256 {
  static constexpr int width = 8;
  static constexpr int vector_bytes = 32;
  static constexpr int tile_rows = 4, pair_rows = 2;
  static constexpr int attend_rows = 3;
  using Codes = __m256i;
  using Four = __m256i;
  using Real = __m256;
  using Whole = __m256i;
  using Ints = __m256i;
  using Floats = __m256;

  static Codes load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Four broadcast(const int8_t* a) {
    int32_t four;
    __builtin_memcpy(&four, a, 4);
    return _mm256_set1_epi32(four);
  }
  static Codes low(Codes c) { return _mm256_and_si256(c, _mm256_set1_epi8(15)); }
  static Codes high(Codes c) { return low(_mm256_srli_epi16(c, 4)); }
  template <int upper>
  static Codes low(Codes c, Codes u) {
    return _mm256_or_si256(low(c), in_high<upper>(_mm256_slli_epi16(u, 4)));
  }
  template <int upper>
  static Codes high(Codes c, Codes u) {
    return _mm256_or_si256(high(c), in_high<upper>(u));
  }
  template <int upper>
  static Codes next(Codes u) {
    return _mm256_srli_epi16(u, upper);
  }
  template <int upper>
  static Codes in_high(Codes u) {
    return _mm256_and_si256(u, _mm256_set1_epi8(kLowest<upper> & 240));
  }

  template <Scale kind>
  static Floats scales(const uint8_t* p) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    if constexpr (kind == Scale::float16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static Ints zeros4(const uint8_t* p, int part) {
    const __m256i both = zeros8(p);
    return _mm256_and_si256(part ? _mm256_srli_epi32(both, 4) : both, _mm256_set1_epi32(15));
  }
  static Ints zeros8(const uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }

  static Ints splat(int32_t x) { return _mm256_set1_epi32(x); }
  static Ints plus(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static Ints minus(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
  static Ints times(Ints a, int32_t x) { return _mm256_mullo_epi32(a, splat(x)); }
  static Floats floats(Ints a) { return _mm256_cvtepi32_ps(a); }
  static Floats plus(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats product(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats scaled(Floats a, float x) { return _mm256_mul_ps(a, _mm256_set1_ps(x)); }

  static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }

  static float highest(Real v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static float fold(Real v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static int32_t highest(Whole v) {
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
  }
  static int32_t sum(Whole v) {
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
  }
  static void store_bytes(int8_t* p, Whole v) {
    v = _mm256_and_si256(v, _mm256_set1_epi32(255));
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
  }
};

}  // namespace
}  // namespace edgewise
