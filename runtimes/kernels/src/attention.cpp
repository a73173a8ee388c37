#include "attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "isa.h"
#include "scratch.h"

namespace edgewise {
namespace {

// Bytes up to which each page is a unit of its own, its part kept until all are merged.
constexpr int64_t kMostApart = 16 << 20;
// New tokens up to which the caller alone writes them: a team costs more.
constexpr int64_t kFewTokens = 4;

class Attention {
 public:
  Attention(const AttentionShape& shape, const AttentionArguments& args, Scratch& scratch)
      : s_(shape),
        a_(args),
        k_(kernels()),
        page_(page_shape(args.pool.type, shape.dim, shape.value_dim, args.pool.summary)),
        group_(shape.heads / shape.kv_heads),
        stride_(state_stride(shape.value_dim)) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < a_.sequences; ++i) {
      Sequence q;
      q.first = a_.starts[i];
      q.tokens = a_.starts[i + 1] - q.first;
      if (!q.tokens) continue;
      q.past = a_.held[i];
      q.table = a_.table + i * a_.table_width;
      q.first_page = first_page(q.past);
      q.pages = pages_of(q.past + q.tokens) - q.first_page;
      const int64_t rows = q.tokens * group_;
      const int64_t parts = s_.kv_heads * (query_bytes() + Scratch::bytes<float>(q.pages * rows * stride_));
      q.apart = rows <= kBlockRows && bytes + parts <= kMostApart;
      q.unit = units_;
      units_ += s_.kv_heads * (q.apart ? q.pages : (rows + kBlockRows - 1) / kBlockRows);
      for (int64_t p = q.past / kPageTokens; p < pages_of(q.past + q.tokens); ++p)
        writes_.push_back({static_cast<int64_t>(sequences_.size()), p});
      if (q.apart) {
        heads_apart_ += s_.kv_heads;
        bytes += parts;
      }
      sequences_.push_back(q);
    }
    // Taken before anything is written.
    scratch.resize(bytes);
    for (Sequence& q : sequences_) {
      if (!q.apart) continue;
      q.queries = apart_.size();
      for (int h = 0; h < s_.kv_heads; ++h)
        apart_.push_back({queries_in(scratch), scratch.take<float>(q.pages * q.tokens * group_ * stride_)});
    }
  }

  // New keys and values go into their pages, a page of one head a unit: a byte of values can hold two tokens.
  void write(Team& team) const {
    const auto one = [this](int64_t unit) {
      const Write& w = writes_[static_cast<size_t>(unit / s_.kv_heads)];
      const Sequence& q = sequences_[static_cast<size_t>(w.sequence)];
      const int head = static_cast<int>(unit % s_.kv_heads);
      uint8_t* page = head_of(q, head, w.page);
      Scratch& memory = thread_memory(2 * Scratch::bytes<float>(s_.dim));
      float* key = memory.take<float>(s_.dim);
      const float* middle = center(head, w.page, memory.take<float>(s_.dim));
      const int64_t begin = std::max(q.past, w.page * kPageTokens);
      const int64_t end = std::min(q.past + q.tokens, (w.page + 1) * kPageTokens);
      for (int64_t at = begin; at < end; ++at) {
        const float* row = a_.qkv + (q.first + at - q.past) * s_.width();
        turn(row + (static_cast<int64_t>(s_.heads) + head) * s_.dim, a_.key_norm, at, key);
        for (int d = 0; middle && d < s_.dim; ++d) key[d] -= middle[d];
        const float* value = row + (static_cast<int64_t>(s_.heads) + s_.kv_heads) * s_.dim;
        k_.keep(page_, page, static_cast<int>(at % kPageTokens), key, value + static_cast<int64_t>(head) * s_.value_dim);
      }
    };
    const int64_t units = static_cast<int64_t>(writes_.size()) * s_.kv_heads;
    if (a_.tokens > kFewTokens) return team.each(units, one);
    for (int64_t unit = 0; unit < units; ++unit) one(unit);
  }

  void attend(Team& team) {
    for (const Sequence& q : sequences_)
      if (q.apart)
        for (int h = 0; h < s_.kv_heads; ++h) ask(q, h, 0, static_cast<int>(q.tokens * group_), queries_of(q, h).queries);
    team.each(units_, [this](int64_t unit) {
      size_t i = 0;
      while (i + 1 < sequences_.size() && sequences_[i + 1].unit <= unit) ++i;
      const Sequence& q = sequences_[i];
      unit -= q.unit;
      // The heads of a page lie side by side.
      if (q.apart) return one_page(q, static_cast<int>(unit % s_.kv_heads), q.first_page + unit / s_.kv_heads);
      const int64_t rows = q.tokens * group_, blocks = (rows + kBlockRows - 1) / kBlockRows;
      // The last blocks see most: they go first.
      const int64_t begin = (blocks - 1 - unit % blocks) * kBlockRows;
      block(q, static_cast<int>(unit / blocks), begin, static_cast<int>(std::min<int64_t>(kBlockRows, rows - begin)));
    });
    int64_t parts = 0;
    for (const Sequence& q : sequences_) parts += q.apart ? s_.heads * q.tokens * q.pages : 0;
    const auto merge_head = [this](int64_t unit) {
      for (const Sequence& q : sequences_) {
        if (!q.apart) continue;
        if (unit < s_.kv_heads) return merge_pages(q, static_cast<int>(unit));
        unit -= s_.kv_heads;
      }
    };
    constexpr int64_t few = 128;
    if (parts > few) return team.each(heads_apart_, merge_head);
    for (int64_t unit = 0; unit < heads_apart_; ++unit) merge_head(unit);
  }

 private:
  struct Sequence {
    int64_t first, tokens, past;
    const int32_t* table;
    int64_t first_page, pages;
    // Whether each page is a unit of its own; then where its queries are.
    bool apart;
    size_t queries;
    int64_t unit;
  };
  struct Write {
    int64_t sequence, page;
  };
  // The rows of one KV head, and what each page makes of them [pages][rows][stride].
  struct Apart {
    Queries queries;
    float* partials;
  };
  struct Span {
    int first, last;
  };

  static Scratch& thread_memory(int64_t bytes) {
    static thread_local Scratch scratch;
    scratch.resize(bytes);
    return scratch;
  }

  // Queries of kBlockRows rows.
  int64_t query_bytes() const {
    const int64_t floats = Scratch::bytes<float>(kBlockRows * s_.dim), blocks = page_.keys.blocks();
    if (!page_.coded()) return floats;
    return floats + Scratch::bytes<int8_t>(kBlockRows * page_.keys.padded_inputs()) +
           2 * Scratch::bytes<float>(kBlockRows * blocks);
  }
  Queries queries_in(Scratch& scratch) const {
    Queries q;
    if (page_.coded()) {
      q.codes.codes = scratch.take<int8_t>(kBlockRows * page_.keys.padded_inputs());
      q.codes.scales = scratch.take<float>(kBlockRows * page_.keys.blocks());
      q.codes.less = scratch.take<int32_t>(kBlockRows * page_.keys.blocks());
    }
    q.floats = scratch.take<float>(kBlockRows * s_.dim);
    return q;
  }

  void turn(const float* x, const float* norm, int64_t position, float* out) const {
    const int64_t half = s_.dim / 2;
    k_.turn(x, norm, s_.epsilon, a_.cos ? a_.cos + position * half : nullptr, a_.cos ? a_.sin + position * half : nullptr,
            s_.dim, out);
  }

  // About where the keys of page p lie, in `out`; null where that is nowhere in particular, or keys are kept as they are.
  const float* center(int head, int64_t p, float* out) const {
    if (!a_.center || !page_.coded()) return nullptr;
    turn(a_.center + static_cast<int64_t>(head) * s_.dim, nullptr,
         std::min(p * kPageTokens + kPageTokens / 2, a_.positions - 1), out);
    return out;
  }

  // The rows [begin, begin + rows) of one KV head: token by token, in a token the heads of the group.
  void ask(const Sequence& q, int head, int64_t begin, int rows, Queries& to) const {
    to.codes.tiles = Tiles::of(rows, k_.tile_rows);
    for (int r = 0; r < rows; ++r) {
      const int64_t token = (begin + r) / group_, h = head * group_ + (begin + r) % group_;
      float* out = to.floats + r * s_.dim;
      turn(a_.qkv + (q.first + token) * s_.width() + h * s_.dim, a_.query_norm, q.past + token, out);
      for (int d = 0; d < s_.dim; ++d) out[d] *= s_.scale * kLog2E;
    }
    for (int t = 0; page_.coded() && t < to.codes.tiles.count; ++t) {
      const Tile tile = to.codes.tiles[t];
      for (int m = 0; m < tile.rows; ++m)
        k_.quantize(page_.keys, to.floats + (tile.first + m) * s_.dim, nullptr, 0.0f, to.codes, tile, m);
    }
  }

  void one_page(const Sequence& q, int head, int64_t p) const {
    const int rows = static_cast<int>(q.tokens * group_);
    int first[kBlockRows], last[kBlockRows];
    spans(q, 0, rows, p, first, last);
    const Apart& apart = queries_of(q, head);
    float* memory = thread_memory(Scratch::bytes<float>(s_.dim)).take<float>(s_.dim);
    const bool last_head = head + 1 == s_.kv_heads;
    const int64_t next = last_head ? std::min(p + 1, q.first_page + q.pages - 1) : p;
    const Page page = {page_, head_of(q, head, p), s_.cap, center(head, p, memory),
                       head_of(q, last_head ? 0 : head + 1, next) - head_of(q, head, p)};
    k_.attend_page(page, rows, apart.queries, first, last, apart.partials + (p - q.first_page) * rows * stride_);
  }

  void merge_pages(const Sequence& q, int head) const {
    const int rows = static_cast<int>(q.tokens * group_);
    const Apart& apart = queries_of(q, head);
    float* states = thread_memory(Scratch::bytes<float>(rows * stride_)).take<float>(rows * stride_);
    for (int r = 0; r < rows; ++r) start(states + r * stride_);
    int first[kBlockRows], last[kBlockRows];
    for (int64_t p = 0; p < q.pages; ++p) {
      spans(q, 0, rows, q.first_page + p, first, last);
      k_.merge(rows, first, last, states, apart.partials + p * rows * stride_, stride_);
    }
    for (int r = 0; r < rows; ++r) finish(q, head, r, states + r * stride_);
  }

  // A block of rows over all the pages that it sees.
  void block(const Sequence& q, int head, int64_t begin, int rows) const {
    Scratch& memory =
        thread_memory(query_bytes() + 2 * Scratch::bytes<float>(rows * stride_) + Scratch::bytes<float>(s_.dim));
    Queries queries = queries_in(memory);
    float *states = memory.take<float>(rows * stride_), *partials = memory.take<float>(rows * stride_);
    float* of_page = memory.take<float>(s_.dim);
    ask(q, head, begin, rows, queries);
    for (int r = 0; r < rows; ++r) start(states + r * stride_);
    int first[kBlockRows], last[kBlockRows];
    const int64_t end = pages_of(q.past + (begin + rows - 1) / group_ + 1);
    for (int64_t p = first_page(q.past + begin / group_); p < end; ++p) {
      spans(q, begin, rows, p, first, last);
      const Page page = {page_, head_of(q, head, p), s_.cap, center(head, p, of_page),
                         head_of(q, head, std::min(p + 1, end - 1)) - head_of(q, head, p)};
      k_.attend_page(page, rows, queries, first, last, partials);
      k_.merge(rows, first, last, states, partials, stride_);
    }
    for (int r = 0; r < rows; ++r) finish(q, head, begin + r, states + r * stride_);
  }

  const Apart& queries_of(const Sequence& q, int head) const { return apart_[q.queries + static_cast<size_t>(head)]; }
  Apart& queries_of(const Sequence& q, int head) { return apart_[q.queries + static_cast<size_t>(head)]; }

  int64_t oldest(int64_t position) const { return s_.window ? std::max<int64_t>(0, position + 1 - s_.window) : 0; }
  int64_t first_page(int64_t position) const { return oldest(position) / kPageTokens; }

  // What the token at `position` sees of page p, within the page; empty where it sees nothing.
  Span seen(int64_t position, int64_t p) const {
    const int64_t start = p * kPageTokens;
    const auto inside = [&](int64_t at) { return static_cast<int>(std::clamp<int64_t>(at - start, 0, kPageTokens)); };
    return {inside(oldest(position)), inside(position + 1)};
  }
  void spans(const Sequence& q, int64_t begin, int rows, int64_t p, int* first, int* last) const {
    for (int r = 0; r < rows; ++r) {
      const Span span = seen(q.past + (begin + r) / group_, p);
      first[r] = span.first;
      last[r] = span.last;
    }
  }

  uint8_t* head_of(const Sequence& q, int head, int64_t p) const {
    return a_.pool.data + q.table[p] * a_.pool.page_bytes +
           (static_cast<int64_t>(s_.layer) * s_.kv_heads + head) * page_.bytes;
  }

  void start(float* state) const {
    std::fill(state, state + stride_, 0.0f);
    state[stride_ - kStateEnd] = -std::numeric_limits<float>::infinity();
  }
  void finish(const Sequence& q, int head, int64_t row, const float* state) const {
    const int64_t token = q.first + row / group_, h = head * group_ + row % group_;
    float sum = state[stride_ - kStateEnd + 1];
    if (a_.sinks) sum += std::exp2(a_.sinks[h] * kLog2E - state[stride_ - kStateEnd]);
    float* out = a_.out + (token * s_.heads + h) * s_.value_dim;
    for (int d = 0; d < s_.value_dim; ++d) out[d] = state[d] / sum;
  }

  const AttentionShape& s_;
  const AttentionArguments& a_;
  const Kernels& k_;
  const PageShape page_;
  const int group_;
  const int64_t stride_;
  std::vector<Sequence> sequences_;
  std::vector<Write> writes_;
  std::vector<Apart> apart_;
  int64_t units_ = 0;
  int64_t heads_apart_ = 0;
};

}  // namespace

void attention(const AttentionShape& shape, const AttentionArguments& args, Team& team) {
  if (!args.tokens) return;
  static thread_local Scratch scratch;
  Attention step(shape, args, scratch);
  step.write(team);
  step.attend(team);
}

}  // namespace edgewise
