// Vectors of floats as wide as the instruction set's. Included inside the unnamed namespace of each instruction set, behind
// its `Lanes`: nothing here may be shared between sets, or the linker could keep the copy that this CPU cannot run.
//
// Lanes offers, as its own types Real and Whole: highest(v), and fold(v), which adds halves to halves, of floats;
// highest(v) and sum(v) of integers, and store_bytes(p, v), of their lowest bytes.

constexpr int kVector = Lanes::vector_bytes / 4;

using Vector = float __attribute__((vector_size(Lanes::vector_bytes), aligned(4), may_alias));
using Integers = int32_t __attribute__((vector_size(Lanes::vector_bytes), aligned(4), may_alias));

// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }
inline Vector splat(float v) { return Vector{} + v; }

// Casts of vectors keep the bits.
inline Integers bits_of(Vector v) { return (Integers)v; }
inline Vector float_of(Integers v) { return (Vector)v; }
inline Lanes::Real real(Vector v) { return (Lanes::Real)v; }
inline Lanes::Whole whole(Integers v) { return (Lanes::Whole)v; }

// e^v for v in [-87, 88], elsewhere that of the nearer end, to about two units in the last place (Cephes' polynomial).
inline Vector exponential(Vector v) {
  v = v < splat(-87.0f) ? splat(-87.0f) : v;
  v = v > splat(88.0f) ? splat(88.0f) : v;
  const Vector shifted = v * 1.44269504088896341f + kRounder;
  const Vector n = shifted - kRounder;
  const Vector r = (v - n * 0.693359375f) - n * -2.12194440e-4f;
  Vector p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Integers exponent = (bits_of(shifted) - (kRounderBits - 127)) << 23;
  return p * float_of(exponent);
}

// 2^v for v at most 1, 0 up to -126, to about two units in the last place: beside 1 the polynomial of degree 5 that is
// off the least, relative to 2^v on [-1/2, 1/2].
inline Vector power_of_two(Vector v) {
  const Vector shifted = v + kRounder;
  const Vector r = v - (shifted - kRounder);
  Vector p = r * 1.3264724985e-3f + 9.6715129912e-3f;
  p = p * r + 5.5507335812e-2f;
  p = p * r + 2.4022242427e-1f;
  p = p * r + 6.9314700365e-1f;
  p = p * r + 1.0f;
  const Integers exponent = (bits_of(shifted) - (kRounderBits - 127)) << 23;
  return v <= splat(-126.0f) ? Vector{} : p * float_of(exponent);
}

// Sixteen sums, in as many vectors as they take.
constexpr int kSums = 16 / kVector;

// Sixteen sums as one, halves onto halves: the one order that every set has.
inline float folded(Vector (&sums)[kSums]) {
  for (int step = kSums / 2; step; step /= 2)
    for (int j = 0; j < step; ++j) sums[j] += sums[j + step];
  return Lanes::fold(real(sums[0]));
}
