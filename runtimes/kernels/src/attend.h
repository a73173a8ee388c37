// Attention of a block of query rows to the keys of one head, a page at a time. Included inside the unnamed namespace of each
// instruction set, behind its `Lanes` and activations.h.
//
// A page gives each row its maximum, the sum of its weights and its weighted values; pages are then merged in order. Both
// depend on a row's own position only, so a row's result is the same bits in every chunk, batch and thread.

using Vector = float __attribute__((vector_size(Lanes::vector_bytes), aligned(4), may_alias));
constexpr int kVector = Lanes::vector_bytes / 4;

// Rows of b that are asked for ahead of their use: narrow columns of wide rows are no stream that a CPU would follow.
constexpr int kRowsAhead = 12;

// c[r][n] = sum over k of a[r][k] * b[k][n], in the order of k, for `count` rows and n < vectors * kVector. The first
// `ahead` numbers of coming rows of b are prefetched.
template <int count, int vectors>
void product_tile(const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, int ahead, float* c,
                  int64_t c_row) {
  Vector sums[count][vectors] = {};
  for (int k = 0; k < depth; ++k, b += b_row) {
    for (int n = 0; n < ahead; n += 16) __builtin_prefetch(b + kRowsAhead * b_row + n);
    for (int v = 0; v < vectors; ++v) {
      const Vector right = *reinterpret_cast<const Vector*>(b + v * kVector);
      for (int r = 0; r < count; ++r) sums[r][v] += a[r * a_row + k] * right;
    }
  }
  for (int r = 0; r < count; ++r)
    for (int v = 0; v < vectors; ++v) *reinterpret_cast<Vector*>(c + r * c_row + v * kVector) = sums[r][v];
}

template <int count>
void product_rows(const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, int columns, float* c,
                  int64_t c_row) {
  constexpr int wide = 4;
  int n = 0;
  for (; n + wide * kVector <= columns; n += wide * kVector)
    product_tile<count, wide>(a, a_row, b + n, b_row, depth, n ? 0 : columns, c + n, c_row);
  for (; n + kVector <= columns; n += kVector) product_tile<count, 1>(a, a_row, b + n, b_row, depth, 0, c + n, c_row);
  for (; n < columns; ++n)
    for (int r = 0; r < count; ++r) {
      float sum = 0.0f;
      for (int k = 0; k < depth; ++k) sum += a[r * a_row + k] * b[k * b_row + n];
      c[r * c_row + n] = sum;
    }
}

void product(int rows, const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, int columns, float* c,
             int64_t c_row) {
  for (; rows >= 3; rows -= 3, a += 3 * a_row, c += 3 * c_row)
    product_rows<3>(a, a_row, b, b_row, depth, columns, c, c_row);
  if (rows == 2) product_rows<2>(a, a_row, b, b_row, depth, columns, c, c_row);
  if (rows == 1) product_rows<1>(a, a_row, b, b_row, depth, columns, c, c_row);
}

// Weights of one row in a page from its scores: e^(score - maximum) for keys [first, last), 0 elsewhere. The maximum
// goes to partial[0], the sum to partial[1].
inline void soften(float* scores, int first, int last, float scale, float* partial) {
  float top = -__builtin_inff();
  for (int k = first; k < last; ++k) {
    scores[k] *= scale;
    top = scores[k] > top ? scores[k] : top;
  }
  for (int k = 0; k < first; ++k) scores[k] = -__builtin_inff();
  for (int k = last; k < kPageTokens; ++k) scores[k] = -__builtin_inff();
  constexpr int lanes = 16;
  float sums[lanes] = {};
  for (int k = 0; k < kPageTokens; k += lanes)
    for (int j = 0; j < lanes; ++j) {
      const float v = scores[k + j] - top;
      scores[k + j] = v < -87.0f ? 0.0f : exponential(v);
      sums[j] += scores[k + j];
    }
  for (int step = lanes / 2; step; step /= 2)
    for (int j = 0; j < step; ++j) sums[j] += sums[j + step];
  partial[0] = top;
  partial[1] = sums[0];
}

// One page for `rows` queries: partial [rows][2 + dim] gets maximum, sum, weighted values. Row r sees the keys
// [first[r], last[r]) of the page; where that is empty its partial is left alone.
void attend_page(const Page& page, int rows, const float* queries, const int* first, const int* last, float* partial) {
  alignas(64) float scores[kBlockRows * kPageTokens];
  product(rows, queries, page.dim, page.keys, kPageTokens, page.dim, kPageTokens, scores, kPageTokens);
  const int64_t stride = 2 + page.dim;
  int depth = 0;
  for (int r = 0; r < rows; ++r) {
    if (first[r] >= last[r]) {
      __builtin_memset(scores + r * kPageTokens, 0, sizeof(float) * kPageTokens);
      continue;
    }
    soften(scores + r * kPageTokens, first[r], last[r], page.scale, partial + r * stride);
    depth = last[r] > depth ? last[r] : depth;
  }
  product(rows, scores, kPageTokens, page.values, page.dim, depth, page.dim, partial + 2, stride);
}

// state [2 + dim] and the next page's partial become the state of both.
void merge(float* __restrict state, const float* __restrict partial, int dim) {
  const float top = state[0] > partial[0] ? state[0] : partial[0];
  const float old_part = state[1] > 0.0f ? exponential(state[0] - top) : 0.0f;
  const float new_part = exponential(partial[0] - top);
  state[0] = top;
  state[1] = state[1] * old_part + partial[1] * new_part;
  for (int d = 0; d < dim; ++d) state[2 + d] = state[2 + d] * old_part + partial[2 + d] * new_part;
}

// One head of one token: RMS norm where `norm` is given, then rotary embedding (arXiv:2104.09864, halves apart) where
// `cos` is, [dim / 2] each.
void turn(const float* x, const float* norm, float epsilon, const float* cos, const float* sin, int dim, float* out) {
  const float factor = norm ? inverse_rms(x, dim, epsilon) : 1.0f;
  for (int d = 0; d < dim; ++d) out[d] = norm ? x[d] * factor * norm[d] : x[d];
  if (!cos) return;
  const int half = dim / 2;
  for (int d = 0; d < half; ++d) {
    const float a = out[d], b = out[half + d];
    out[d] = a * cos[d] - b * sin[d];
    out[half + d] = b * cos[d] + a * sin[d];
  }
}
