// Activations as 8-bit codes, RMS-normed where that is wanted. Sums are folded in a fixed order, so every set gives the
// same bits.
// Included inside the unnamed namespace of each instruction set, behind vectors.h.

// Below this a block counts as zero: 127 divided by less would overflow.
constexpr float kSmallest = 1e-35f;
constexpr int32_t kInfinity = 0x7f800000;

// 1 / RMS (arXiv:1910.07467).
inline float inverse_rms(const float* x, int64_t n, float epsilon) {
  Vector squares[kSums] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < kSums; ++j) squares[j] += load(x + i + j * kVector) * load(x + i + j * kVector);
  float rest[16] = {};
  for (int j = 0; i + j < n; ++j) rest[j] = x[i + j] * x[i + j];
  if (i < n)
    for (int j = 0; j < kSums; ++j) squares[j] += load(rest + j * kVector);
  return 1.0f / __builtin_sqrtf(folded(squares) / static_cast<float>(n) + epsilon);
}

// One block of values; returns the sum of the codes.
template <int block>
int32_t quantize_block(const Vector (&v)[block / kVector], int8_t* codes, float* scale) {
  Integers tops = {};
  for (const Vector& part : v) {
    // The bits of magnitudes order as the magnitudes do, NaN above infinity.
    const Integers magnitude = bits_of(part) & 0x7fffffff;
    tops = magnitude > tops ? magnitude : tops;
  }
  const int32_t top = Lanes::highest(whole(tops));
  float largest;
  __builtin_memcpy(&largest, &top, 4);
  if (top >= kInfinity || largest < kSmallest) {
    // What is not finite makes every product of the row NaN, in every order of summation.
    *scale = top >= kInfinity ? __builtin_nanf("") : 0.0f;
    __builtin_memset(codes, 0, block);
    return 0;
  }
  *scale = largest / 127.0f;
  const float inverse = 127.0f / largest;
  Integers total = {};
  for (int i = 0; i < block / kVector; ++i) {
    const Integers code = bits_of(v[i] * inverse + kRounder) - kRounderBits;
    Lanes::store_bytes(codes + i * kVector, whole(code));
    total += code;
  }
  return Lanes::sum(whole(total));
}

template <int block>
void quantize_blocks(const Shape& shape, const float* x, const float* norm, float epsilon, const Activations& to, Tile tile,
                     int row) {
  const float factor = norm ? inverse_rms(x, shape.inputs, epsilon) : 1.0f;
  const int32_t middle = shape.zero_points ? -1 : Lanes::offset(shape.bits) - (1 << (shape.bits - 1));
  int64_t index = tile.first * shape.blocks() + row;
  for (int64_t at = 0; at < shape.inputs; at += block, index += tile.rows) {
    const float *from = x + at, *by = norm ? norm + at : nullptr;
    float rest[block], rest_norm[block];
    if (const int64_t left = shape.inputs - at; left < block) {
      for (int i = 0; i < block; ++i) rest[i] = i < left ? from[i] : 0.0f, rest_norm[i] = by && i < left ? by[i] : 0.0f;
      from = rest;
      by = by ? rest_norm : nullptr;
    }
    Vector v[block / kVector];
    for (int i = 0; i < block / kVector; ++i) {
      v[i] = load(from + i * kVector);
      if (by) v[i] = v[i] * factor * load(by + i * kVector);
    }
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
