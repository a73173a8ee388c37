// What is computed of activations number by number: 8-bit codes, RMS norm, SwiGLU. Plain loops, which the compiler turns into
// the vectors of the set it compiles for; sums are folded in a fixed order, so every set gives the same bits.
// Included inside the unnamed namespace of each instruction set: nothing here may be shared between sets, or the linker
// could keep the copy that this CPU cannot run.

// Below this a block counts as zero: 127 divided by less would overflow.
constexpr float kSmallest = 1e-35f;
constexpr int32_t kInfinity = 0x7f800000;
// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even.
constexpr float kRounder = 12582912.0f;
constexpr int32_t kRounderBits = 0x4b400000;

inline int32_t bits_of(float v) {
  int32_t bits;
  __builtin_memcpy(&bits, &v, 4);
  return bits;
}

inline float float_of(int32_t bits) {
  float v;
  __builtin_memcpy(&v, &bits, 4);
  return v;
}

// 1 / RMS (arXiv:1910.07467).
inline float inverse_rms(const float* x, int64_t n, float epsilon) {
  constexpr int lanes = 16;
  float squares[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) squares[j] += x[i + j] * x[i + j];
  for (int j = 0; i + j < n; ++j) squares[j] += x[i + j] * x[i + j];
  for (int step = lanes / 2; step; step /= 2)
    for (int j = 0; j < step; ++j) squares[j] += squares[j + step];
  return 1.0f / __builtin_sqrtf(squares[0] / static_cast<float>(n) + epsilon);
}

// One block of values; returns the sum of the codes.
template <int block>
int32_t quantize_block(const float* v, int8_t* codes, float* scale) {
  int32_t top = 0;
  for (int i = 0; i < block; ++i) {
    // The bits of magnitudes order as the magnitudes do, NaN above infinity.
    const int32_t magnitude = bits_of(v[i]) & 0x7fffffff;
    top = magnitude > top ? magnitude : top;
  }
  const float largest = float_of(top);
  if (top >= kInfinity || largest < kSmallest) {
    // What is not finite makes every product of the row NaN, in every order of summation.
    *scale = top >= kInfinity ? __builtin_nanf("") : 0.0f;
    __builtin_memset(codes, 0, block);
    return 0;
  }
  *scale = largest / 127.0f;
  const float inverse = 127.0f / largest;
  int32_t total = 0;
  for (int i = 0; i < block; ++i) {
    const int32_t code = bits_of(v[i] * inverse + kRounder) - kRounderBits;
    codes[i] = static_cast<int8_t>(code);
    total += code;
  }
  return total;
}

template <int block>
void quantize_blocks(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, int row) {
  const float factor = norm ? inverse_rms(x, shape.inputs, epsilon) : 1.0f;
  const int32_t middle = shape.zero_points ? 1 : (1 << (shape.bits - 1)) - Lanes::offset(shape.bits);
  for (int64_t b = 0, at = 0; at < shape.inputs; ++b, at += block) {
    float values[block] = {};
    const float* v = x + at;
    const int64_t left = shape.inputs - at;
    if (norm && left >= block) {
      for (int i = 0; i < block; ++i) values[i] = x[at + i] * factor * norm[at + i];
      v = values;
    } else if (left < block) {
      for (int64_t i = 0; i < left; ++i) values[i] = norm ? x[at + i] * factor * norm[at + i] : x[at + i];
      v = values;
    }
    const int64_t index = b * to.rows + row;
    to.sums[index] = middle * quantize_block<block>(v, to.codes + index * block, to.scales + index);
  }
}

void quantize(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, int row) {
  switch (shape.block) {
    case 32:
      return quantize_blocks<32>(shape, x, norm, epsilon, to, row);
    case 64:
      return quantize_blocks<64>(shape, x, norm, epsilon, to, row);
    default:
      return quantize_blocks<128>(shape, x, norm, epsilon, to, row);
  }
}

// e^v for v in [-87, 88], elsewhere that of the nearer end, to about two units in the last place (Cephes' polynomial).
inline float exponential(float v) {
  v = v < -87.0f ? -87.0f : v;
  v = v > 88.0f ? 88.0f : v;
  const float shifted = v * 1.44269504088896341f + kRounder;
  const float n = shifted - kRounder;
  const float r = (v - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const uint32_t exponent = static_cast<uint32_t>(bits_of(shifted) - kRounderBits + 127) << 23;
  return p * float_of(static_cast<int32_t>(exponent));
}

// SwiGLU (Shazeer 2020, arXiv:2002.05202).
void gate(float* __restrict gate, const float* __restrict up, int64_t n) {
  for (int64_t i = 0; i < n; ++i) gate[i] = gate[i] / (exponential(-gate[i]) + 1.0f) * up[i];
}
