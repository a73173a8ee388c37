// Stands before the compiler's own <immintrin.h> in emulated builds: the intrinsics as plain code, so that every instruction
// set's source runs, and is tested, on any CPU. SIMDe has most of them; what it lacks is here.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>

#include <cstdint>
#include <cstring>

#include "../src/short_floats.h"

namespace edgewise_emulated {

template <class To, class From>
inline To bytes_of(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a vector and its elements");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class Number, int count>
struct Elements {
  Number of[count];
};

// Each element of a vector of `From` as one of `To`.
template <class To, class From, int count, class Out, class In>
inline Out converted(const In& in) {
  const auto from = bytes_of<Elements<From, count>>(in);
  Elements<To, count> to;
  for (int i = 0; i < count; ++i) to.of[i] = static_cast<To>(from.of[i]);
  return bytes_of<Out>(to);
}

// Each half-precision number as a float.
template <int count, class Out, class In>
inline Out of_halves(const In& in) {
  const auto halves = bytes_of<Elements<uint16_t, count>>(in);
  Elements<float, count> to;
  for (int i = 0; i < count; ++i) to.of[i] = edgewise::of_half(halves.of[i]);
  return bytes_of<Out>(to);
}

}  // namespace edgewise_emulated

inline __m512i _mm512_cvtepu8_epi32(__m128i a) {
  return edgewise_emulated::converted<int32_t, uint8_t, 16, __m512i>(a);
}

inline __m512i _mm512_cvtepu16_epi32(__m256i a) {
  return edgewise_emulated::converted<int32_t, uint16_t, 16, __m512i>(a);
}

inline __m128i _mm512_cvtepi32_epi8(__m512i a) {
  return edgewise_emulated::converted<int8_t, int32_t, 16, __m128i>(a);
}

inline __m256 _mm256_cvtph_ps(__m128i a) { return edgewise_emulated::of_halves<8, __m256>(a); }
inline __m512 _mm512_cvtph_ps(__m256i a) { return edgewise_emulated::of_halves<16, __m512>(a); }

inline __m512 _mm512_cvtepi32_ps(__m512i a) { return edgewise_emulated::converted<float, int32_t, 16, __m512>(a); }

// Sums of four products of unsigned with signed bytes.
template <int count, class Vector>
inline Vector edgewise_dpbusd(Vector sums, Vector unsigned_bytes, Vector signed_bytes) {
  using namespace edgewise_emulated;
  auto total = bytes_of<Elements<int32_t, count>>(sums);
  const auto a = bytes_of<Elements<uint8_t, 4 * count>>(unsigned_bytes);
  const auto b = bytes_of<Elements<int8_t, 4 * count>>(signed_bytes);
  for (int i = 0; i < 4 * count; ++i) total.of[i / 4] += a.of[i] * b.of[i];
  return bytes_of<Vector>(total);
}

inline __m256i _mm256_dpbusd_avx_epi32(__m256i sums, __m256i a, __m256i b) { return edgewise_dpbusd<8>(sums, a, b); }
