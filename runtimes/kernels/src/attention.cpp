#include "attention.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "isa.h"

namespace edgewise {
namespace {

class Attention {
 public:
  Attention(const AttentionShape& shape, const AttentionArguments& args, std::vector<float>& workspace)
      : s_(shape), a_(args), k_(kernels()), group_(shape.heads / shape.kv_heads), stride_(2 + shape.dim) {
    const int64_t dim = s_.dim;
    partials_at_ = a_.tokens * s_.heads * dim;
    pages_ = a_.tokens == 1 ? pages_of(a_.past + 1) : 0;
    workspace.resize(partials_at_ + s_.kv_heads * pages_ * group_ * stride_);
    work_ = workspace.data();
  }

  // Queries turned into the workspace, keys and values into the cache.
  void write(int64_t token) const {
    const int64_t dim = s_.dim, half = dim / 2, position = a_.past + token;
    const float* row = a_.qkv + token * (s_.heads + 2 * s_.kv_heads) * dim;
    const float* cos = a_.cos ? a_.cos + position * half : nullptr;
    const float* sin = a_.cos ? a_.sin + position * half : nullptr;
    // Rows of one KV head lie together: [kv_head][token][head of the group].
    for (int h = 0; h < s_.heads; ++h)
      k_.turn(row + h * dim, a_.query_norm, s_.epsilon, cos, sin, s_.dim, query(h / group_, token) + h % group_ * dim);
    std::vector<float>& key = scratch();
    key.resize(dim);
    for (int h = 0; h < s_.kv_heads; ++h) {
      k_.turn(row + (s_.heads + h) * dim, a_.key_norm, s_.epsilon, cos, sin, s_.dim, key.data());
      float* column = page_keys(h, position / kPageTokens) + position % kPageTokens;
      for (int64_t d = 0; d < dim; ++d) column[d * kPageTokens] = key[d];
      std::memcpy(page_values(h, 0) + position * dim, row + (s_.heads + s_.kv_heads + h) * dim, sizeof(float) * dim);
    }
  }

  // One token: pages are shared out, each page's part kept apart, then merged in order.
  void decode(Team& team) const {
    const int64_t first = first_page(a_.past), pages = pages_ - first;
    team.each(s_.kv_heads * pages, [&](int64_t unit) {
      const int head = static_cast<int>(unit / pages);
      const int64_t p = first + unit % pages;
      const Span span = seen(a_.past, p);
      int from[kBlockRows], to[kBlockRows];
      std::fill(from, from + group_, span.first);
      std::fill(to, to + group_, span.last);
      k_.attend_page(page(head, p), group_, query(head, 0), from, to, partial(head, p));
    });
    std::vector<float>& state = scratch();
    state.resize(stride_);
    for (int h = 0; h < s_.heads; ++h) {
      start(state.data());
      for (int64_t p = first; p < pages_; ++p)
        k_.merge(state.data(), partial(h / group_, p) + h % group_ * stride_, s_.dim);
      finish(state.data(), a_.out + h * static_cast<int64_t>(s_.dim));
    }
  }

  // Many tokens: blocks of rows of one KV head, each over all the pages it sees.
  void prefill(Team& team) const {
    const int64_t rows = a_.tokens * group_, blocks = (rows + kBlockRows - 1) / kBlockRows;
    team.each(s_.kv_heads * blocks, [&](int64_t unit) {
      const int head = static_cast<int>(unit / blocks);
      // The last blocks see most: they go first.
      const int64_t begin = (blocks - 1 - unit % blocks) * kBlockRows;
      block(head, begin, static_cast<int>(std::min<int64_t>(kBlockRows, rows - begin)));
    });
  }

 private:
  struct Span {
    int first, last;
  };

  void block(int head, int64_t begin, int rows) const {
    std::vector<float>& states = scratch();
    states.resize(2 * rows * stride_);
    float* partials = states.data() + rows * stride_;
    for (int r = 0; r < rows; ++r) start(states.data() + r * stride_);
    int first[kBlockRows], last[kBlockRows];
    const int64_t end = pages_of(position(begin + rows - 1) + 1);
    for (int64_t p = first_page(position(begin)); p < end; ++p) {
      for (int r = 0; r < rows; ++r) {
        const Span span = seen(position(begin + r), p);
        first[r] = span.first;
        last[r] = span.last;
      }
      const float* queries = work_ + (head * a_.tokens * group_ + begin) * s_.dim;
      k_.attend_page(page(head, p), rows, queries, first, last, partials);
      for (int r = 0; r < rows; ++r)
        if (first[r] < last[r]) k_.merge(states.data() + r * stride_, partials + r * stride_, s_.dim);
    }
    for (int r = 0; r < rows; ++r) {
      const int64_t token = (begin + r) / group_, h = head * group_ + (begin + r) % group_;
      finish(states.data() + r * stride_, a_.out + (token * s_.heads + h) * s_.dim);
    }
  }

  int64_t position(int64_t row) const { return a_.past + row / group_; }
  static int64_t pages_of(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }
  int64_t oldest(int64_t position) const { return s_.window ? std::max<int64_t>(0, position + 1 - s_.window) : 0; }
  int64_t first_page(int64_t position) const { return oldest(position) / kPageTokens; }

  // What the token at `position` sees of page p, within the page; empty where it sees nothing.
  Span seen(int64_t position, int64_t p) const {
    const int64_t start = p * kPageTokens;
    const auto inside = [&](int64_t at) { return static_cast<int>(std::clamp<int64_t>(at - start, 0, kPageTokens)); };
    return {inside(oldest(position)), inside(position + 1)};
  }

  Page page(int head, int64_t p) const {
    return {page_keys(head, p), page_values(head, 0) + p * kPageTokens * s_.dim, s_.dim, s_.scale};
  }
  float* page_keys(int head, int64_t p) const {
    return a_.keys + (head * a_.capacity + p * kPageTokens) * s_.dim;
  }
  float* page_values(int head, int64_t token) const { return a_.values + (head * a_.capacity + token) * s_.dim; }
  float* query(int kv_head, int64_t token) const {
    return work_ + (kv_head * a_.tokens + token) * group_ * s_.dim;
  }
  float* partial(int kv_head, int64_t p) const {
    return work_ + partials_at_ + (kv_head * pages_ + p) * group_ * stride_;
  }

  void start(float* state) const {
    std::fill(state, state + stride_, 0.0f);
    state[0] = -std::numeric_limits<float>::infinity();
  }
  void finish(const float* state, float* out) const {
    for (int d = 0; d < s_.dim; ++d) out[d] = state[2 + d] / state[1];
  }

  static std::vector<float>& scratch() {
    static thread_local std::vector<float> memory;
    return memory;
  }

  const AttentionShape& s_;
  const AttentionArguments& a_;
  const Kernels& k_;
  const int group_;
  const int64_t stride_;
  int64_t pages_ = 0;
  int64_t partials_at_ = 0;
  float* work_ = nullptr;
};

}  // namespace

void attention(const AttentionShape& shape, const AttentionArguments& args, Team& team) {
  if (!args.tokens) return;
  static thread_local std::vector<float> workspace;
  const Attention step(shape, args, workspace);
  if (args.tokens == 1) {
    step.write(0);
    step.decode(team);
  } else {
    team.each(args.tokens, [&](int64_t token) { step.write(token); });
    step.prefill(team);
  }
}

}  // namespace edgewise
