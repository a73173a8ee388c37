// Attention to a page of codes, in integers. Included inside the unnamed namespace of each instruction set, behind
// multiply.h.

constexpr int kPlanes = Lanes::weight_planes;
constexpr float kMostWeight = 255.0f;
constexpr bool kValuesInPairs = Lanes::pair_rows == Lanes::tile_rows;
// Rows of queries whose planes fill a tile.
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
      multiply_pair<bits, false, Scale::bfloat16, 1>(p, panel, true, queries, tile, products);
      for (int m = 0; m < tile.rows; ++m)
        for (int i = 0; i < 2; ++i)
          __builtin_memcpy(scores + (tile.first + m) * kPageTokens + (panel + i) * kPanelRows, products[i] + m * kPanelRows,
                           sizeof(float) * kPanelRows);
    }
}

// Codes of one row's weights times the scales of values; returns their unit. Minus the sum of the codes goes to `less`.
template <bool whole_page>
float encode_weights(const float* weights, const float* scales, int width, int8_t* codes, int32_t* less) {
  if (whole_page) width = kPageTokens;
  Vector products[kPageTokens / kVector];
  Integers tops = {};
  for (int k = 0; k < width; k += kVector) {
    const Vector weight = load(weights + k);
    // Of a token that the row does not see nothing counts, not even that its scale is no number.
    const Vector product = weight > Vector{} ? weight * load(scales + k) : Vector{};
    products[k / kVector] = product;
    // As integers they order as the numbers do, NaN above all.
    tops = bits_of(product) > tops ? bits_of(product) : tops;
  }
  const int32_t top_bits = Lanes::highest(whole(tops));
  float top;
  __builtin_memcpy(&top, &top_bits, 4);
  const bool none = top_bits >= kInfinity || top < kSmallest;
  const float inverse = none ? 0.0f : kMostWeight / top;
  Integers sums = {};
  for (int k = 0; k < width; k += kVector) {
    Integers code = bits_of(products[k / kVector] * inverse + kRounder) - kRounderBits;
    if (none) code = Integers{};
    if (kPlanes == 1) {
      Lanes::store_bytes(codes + k, whole(code));
    } else {
      Lanes::store_bytes(codes + k, whole(code >> 1));
      Lanes::store_bytes(codes + kPageTokens + k, whole(code & 1));
    }
    sums += code;
  }
  if (less) *less = -Lanes::sum(whole(sums));
  return top_bits >= kInfinity ? __builtin_nanf("") : none ? 0.0f : top * (1.0f / kMostWeight);
}

template <int number>
struct Panels {
  static constexpr int count = number;
};

// The values of `count` rows in `panels` panels: out [rows][stride].
template <int bits, int count, int panels>
void value_tile(const uint8_t* codes, int64_t panel_bytes, int64_t ahead, int groups, const int8_t* weights,
                const int32_t* less, const float* factors, float* out, int64_t stride) {
  constexpr int columns = panels * kParts;
  // Nibbles stand for themselves less 8.
  constexpr int middle = bits == 4 ? 8 : 0;
  Lanes::Ints dot[kPlanes * count][columns];
  for (int m = 0; m < kPlanes * count; ++m)
    for (int c = 0; c < columns; ++c)
      dot[m][c] = Lanes::splat(middle && (m + 1) % kPlanes == 0 ? middle * less[m / kPlanes] : 0);
  dot_groups<Lanes::Weighed, bits, kPlanes * count, panels>(codes, panel_bytes, ahead, groups, weights, kPageTokens, dot);
  for (int m = 0; m < count; ++m)
    for (int c = 0; c < columns; ++c) {
      Lanes::Ints sum = dot[kPlanes * m][c];
      if (kPlanes == 2) sum = Lanes::plus(Lanes::plus(sum, sum), dot[kPlanes * m + kPlanes - 1][c]);
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
void add_value_codes(const Page& page, int rows, int width, const float* weights, float* out, int64_t stride) {
  const PageShape& s = page.shape;
  alignas(64) int8_t codes[kBlockRows * kPlanes * kPageTokens];
  alignas(64) float scales[kPageTokens];
  float factors[kBlockRows];
  int32_t less[kBlockRows];
  const uint16_t* all_scales = reinterpret_cast<const uint16_t*>(page.data + s.scales_at);
  for (int group = 0; group < s.value_groups; ++group, all_scales += kPageTokens) {
    for (int line = 0; line < 2 * kPageTokens; line += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(all_scales) + page.ahead + line, 0, 2);
    for (int k = 0; k < width; ++k) scales[k] = from_bfloat16(all_scales[k]);
    const auto encode_row = width == kPageTokens ? encode_weights<true> : encode_weights<false>;
    for (int r = 0; r < rows; ++r)
      factors[r] = encode_row(weights + r * kPageTokens, scales, width, codes + r * kPlanes * kPageTokens,
                              bits == 4 ? less + r : nullptr);
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
