// Attention to a page of codes, in integers. Included inside the unnamed namespace of each instruction set, behind
// multiply.h.

// Weights are codes of 14 bits, as two rows of 7.
constexpr int kPlanes = 2, kPlaneBits = 7;
constexpr int32_t kMostWeight = (1 << kPlanes * kPlaneBits) - 1;
// Rows of queries whose planes fill a tile.
constexpr bool kValuesInPairs = Lanes::pair_rows == Lanes::tile_rows;
constexpr int kValueRows = Lanes::tile_rows / kPlanes;

// Scores [rows][kPageTokens] of the first `width` keys, a multiple of two panels.
template <int bits>
void score_codes(const Page& page, const Activations& queries, int width, float* scores) {
  Product p{page.shape.keys, page.data, nullptr};
  p.ahead = page.ahead;
  alignas(64) float products[2][kMostTileRows * kPanelRows];
  for (int panel = 0; panel * kPanelRows < width; panel += 2)
    for (int t = 0; t < queries.tiles.count; ++t) {
      const Tile tile = queries.tiles[t];
      multiply_pair<bits, false, 1>(p, panel, true, queries, tile, products);
      for (int m = 0; m < tile.rows; ++m)
        for (int i = 0; i < 2; ++i)
          __builtin_memcpy(scores + (tile.first + m) * kPageTokens + (panel + i) * kPanelRows, products[i] + m * kPanelRows,
                           sizeof(float) * kPanelRows);
    }
}

// Codes of one row's weights times the scales of values, in units of `top`; minus their sum goes to `less`.
inline void encode_weights(const float* weights, const float* scales, int width, float top, int8_t* codes, int32_t* less) {
  const float inverse = top > 0.0f ? static_cast<float>(kMostWeight) / top : 0.0f;
  Integers sums = {};
  for (int k = 0; k < width; k += kVector) {
    const Integers code = bits_of(load(weights + k) * load(scales + k) * inverse + kRounder) - kRounderBits;
    Lanes::store_bytes(codes + k, whole(code >> kPlaneBits));
    Lanes::store_bytes(codes + kPageTokens + k, whole(code & ((1 << kPlaneBits) - 1)));
    sums += code;
  }
  *less = -Lanes::sum(whole(sums));
}

// The values of `count` rows in `panels` panels: out [rows][stride].
template <int number>
struct Panels {
  static constexpr int count = number;
};

template <int bits, int count, int panels>
void value_tile(const uint8_t* codes, int64_t panel_bytes, int64_t ahead, int groups, const int8_t* weights,
                const int32_t* less, const float* factors, float* out, int64_t stride) {
  constexpr int columns = panels * kParts;
  constexpr int middle = (1 << (bits - 1)) - Lanes::offset(bits);
  Lanes::Ints dot[kPlanes * count][columns];
  for (int m = 0; m < kPlanes * count; ++m)
    for (int c = 0; c < columns; ++c) dot[m][c] = Lanes::splat(m % kPlanes ? middle * less[m / kPlanes] : 0);
  dot_groups<bits, kPlanes * count, panels>(codes, panel_bytes, ahead, groups, weights, kPageTokens, dot);
  for (int m = 0; m < count; ++m)
    for (int c = 0; c < columns; ++c) {
      const Lanes::Ints sum = Lanes::plus(Lanes::times(dot[kPlanes * m][c], 1 << kPlaneBits), dot[kPlanes * m + 1][c]);
      Lanes::store(out + m * stride + c * Lanes::width, Lanes::scaled(Lanes::floats(sum), factors[m]));
    }
}

template <int bits, int count, int panels>
void value_rows(int rows, const uint8_t* codes, int64_t panel_bytes, int64_t ahead, int groups, const int8_t* weights,
                const int32_t* less, const float* factors, float* out, int64_t stride) {
  if constexpr (count > 1)
    if (rows < count)
      return value_rows<bits, count - 1, panels>(rows, codes, panel_bytes, ahead, groups, weights, less, factors, out,
                                                 stride);
  value_tile<bits, count, panels>(codes, panel_bytes, ahead, groups, weights, less, factors, out, stride);
}

// Weighted values of all rows, out [rows][stride], from weights [rows][kPageTokens] that are 0 up to `width`, a multiple of
// kGroup, where a row sees nothing. Keeps off padding: all of the last panel is written.
template <int bits>
void add_value_codes(const Page& page, int rows, const int* last, int width, const float* weights, float* out,
                     int64_t stride) {
  const PageShape& s = page.shape;
  alignas(64) int8_t codes[kBlockRows * kPlanes * kPageTokens];
  alignas(64) float scales[kPageTokens];
  float factors[kBlockRows];
  int32_t less[kBlockRows];
  const uint16_t* all_scales = reinterpret_cast<const uint16_t*>(page.data + s.scales_at);
  const uint16_t* tops = reinterpret_cast<const uint16_t*>(page.data + s.tops_at);
  for (int group = 0; group < s.value_groups; ++group, all_scales += kPageTokens, tops += kPageTokens) {
    for (int line = 0; line < 2 * kPageTokens; line += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(all_scales) + page.ahead + line, 0, 2);
      __builtin_prefetch(reinterpret_cast<const char*>(tops) + page.ahead + line, 0, 2);
    }
    // A token without codes adds nothing; the rows that see it learn of it from the top.
    for (int k = 0; k < width; ++k) scales[k] = all_scales[k] > 0x7f80 ? 0.0f : from_bfloat16(all_scales[k]);
    for (int r = 0; r < rows; ++r) {
      const float top = last[r] > 0 ? from_bfloat16(tops[last[r] - 1]) : 0.0f;
      factors[r] = top * (1.0f / static_cast<float>(kMostWeight));
      encode_weights(weights + r * kPageTokens, scales, width, top, codes + r * kPlanes * kPageTokens, less + r);
    }
    const int begin = group * s.value_group / kPanelRows;
    const int end = (group + 1) * s.value_group / kPanelRows < s.value_panels ? (group + 1) * s.value_group / kPanelRows
                                                                               : s.value_panels;
    const int tiles = (rows + kValueRows - 1) / kValueRows;
    for (int panel = begin; panel < end;) {
      const bool pair = kValuesInPairs && panel + 1 < end;
      const uint8_t* at = page.data + s.values_at + panel * s.value_panel_bytes;
      for (int t = 0, done = 0; t < tiles; ++t) {
        const int count = (rows - done) / (tiles - t);
        const auto run = [&](auto panels) {
          value_rows<bits, kValueRows, decltype(panels)::count>(
              count, at, s.value_panel_bytes, page.ahead, width / kGroup, codes + done * kPlanes * kPageTokens, less + done,
              factors + done, out + done * stride + panel * kPanelRows, stride);
        };
        pair ? run(Panels<kValuesInPairs ? 2 : 1>{}) : run(Panels<1>{});
        done += count;
      }
      panel += pair ? 2 : 1;
    }
  }
}
