// What is computed of activations number by number: 8-bit codes, RMS norm. Plain loops, which the compiler turns into
// the vectors of the set it compiles for; sums are folded in a fixed order, so every set gives the same bits.
// Included inside the unnamed namespace of each instruction set, behind vectors.h.

// Below this a block counts as zero: 127 divided by less would overflow.
constexpr float kSmallest = 1e-35f;
constexpr int32_t kInfinity = 0x7f800000;
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
  return 1.0f / __builtin_sqrtf(folded(squares) / static_cast<float>(n) + epsilon);
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
void quantize_blocks(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, Tile tile,
                     int row) {
  const float factor = norm ? inverse_rms(x, shape.inputs, epsilon) : 1.0f;
  const int32_t middle = shape.zero_points ? -1 : Lanes::offset(shape.bits) - (1 << (shape.bits - 1));
  const int64_t base = tile.first * shape.blocks();
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
    const int64_t index = base + b * tile.rows + row;
    to.less[index] = middle * quantize_block<block>(v, to.codes + index * block, to.scales + index);
  }
}

void quantize(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, Tile tile,
              int row) {
  switch (shape.block) {
    case 32:
      return quantize_blocks<32>(shape, x, norm, epsilon, to, tile, row);
    case 64:
      return quantize_blocks<64>(shape, x, norm, epsilon, to, tile, row);
    default:
      return quantize_blocks<128>(shape, x, norm, epsilon, to, tile, row);
  }
}
