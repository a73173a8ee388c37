// From products to outputs: bias, SwiGLU, residual; and the walk over panels and tiles. Included inside the unnamed
// namespace of each instruction set, behind multiply.h.

// SwiGLU (Shazeer 2020, arXiv:2002.05202).
inline Vector swiglu(Vector gate, Vector up) { return gate / (exponential(-gate) + 1.0f) * up; }

// Outputs of panel `index` for one row, whose products are `y` [16] and, where gated, `up` [16].
inline void finish(const Product& p, int64_t index, int64_t row, float* y, float* up) {
  const int64_t column = index * kPanelRows, at = row * p.outputs + column;
  const int64_t width = p.outputs - column < kPanelRows ? p.outputs - column : kPanelRows;
  if (width < kPanelRows) {
    for (int64_t i = 0; i < width; ++i) {
      if (p.bias) y[i] += p.bias[column + i];
      if (p.bias && up) up[i] += p.bias[p.outputs + column + i];
    }
    if (up)
      for (int v = 0; v < kPanelRows; v += kVector) store(y + v, swiglu(load(y + v), load(up + v)));
    for (int64_t i = 0; i < width; ++i) p.out[at + i] = p.residual ? y[i] + p.residual[at + i] : y[i];
    return;
  }
  for (int v = 0; v < kPanelRows; v += kVector) {
    Vector out = load(y + v);
    if (p.bias) out += load(p.bias + column + v);
    if (up) {
      Vector other = load(up + v);
      if (p.bias) other += load(p.bias + p.outputs + column + v);
      out = swiglu(out, other);
    }
    if (p.residual) out += load(p.residual + at + v);
    store(p.out + at + v, out);
  }
}

template <int bits, bool zero_points, int groups>
void multiply_pairs(const Product& p, const Activations& a, int64_t begin, int64_t end) {
  alignas(64) float products[2][kMostTileRows * kPanelRows];
  for (int64_t pair = begin; pair < end; ++pair) {
    const bool two = p.shape.gated || 2 * pair + 1 < p.panels;
    for (int t = 0; t < a.tiles.count; ++t) {
      const Tile tile = a.tiles[t];
      multiply_pair<bits, zero_points, Scale::float16, groups>(p, 2 * pair, two, a, tile, products);
      for (int m = 0; m < tile.rows; ++m) {
        float *y = products[0] + m * kPanelRows, *other = products[1] + m * kPanelRows;
        if (p.shape.gated) {
          finish(p, pair, tile.first + m, y, other);
        } else {
          finish(p, 2 * pair, tile.first + m, y, nullptr);
          if (two) finish(p, 2 * pair + 1, tile.first + m, other, nullptr);
        }
      }
    }
  }
}

template <int bits, bool zero_points>
void multiply_blocks(const Product& p, const Activations& a, int64_t begin, int64_t end) {
  if (p.shape.block == kGroup)
    multiply_pairs<bits, zero_points, 1>(p, a, begin, end);
  else
    multiply_pairs<bits, zero_points, 0>(p, a, begin, end);
}

template <int bits>
void multiply_bits(const Product& p, const Activations& a, int64_t begin, int64_t end) {
  p.shape.zero_points ? multiply_blocks<bits, true>(p, a, begin, end) : multiply_blocks<bits, false>(p, a, begin, end);
}

void multiply(const Product& p, const Activations& a, int64_t begin, int64_t end) {
  switch (p.shape.bits) {
    case 4:
      return multiply_bits<4>(p, a, begin, end);
    case 5:
      return multiply_bits<5>(p, a, begin, end);
    case 6:
      return multiply_bits<6>(p, a, begin, end);
    default:
      return multiply_bits<8>(p, a, begin, end);
  }
}
