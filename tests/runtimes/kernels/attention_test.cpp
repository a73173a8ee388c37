// Attention against double precision, and the same bits from every cut into chunks, instruction set and team.
#include "attention.h"

#include <algorithm>

#include "check.h"
#include "isa.h"

namespace edgewise::test {
namespace {

constexpr int kThreads[] = {1, 2, 3, 8};

// One sequence and how it is to be read; every vector ends where its memory ends.
struct Sequence {
  AttentionShape shape;
  int64_t tokens, capacity;
  std::vector<float> qkv, query_norm, key_norm, cos, sin;

  int64_t width() const { return static_cast<int64_t>(shape.heads + 2 * shape.kv_heads) * shape.dim; }
  int group() const { return shape.heads / shape.kv_heads; }
};

Sequence random_sequence(Random& random) {
  Sequence q;
  AttentionShape& s = q.shape;
  s.kv_heads = static_cast<int>(random.whole(1, 3));
  s.heads = s.kv_heads * static_cast<int>(random.whole(1, 8));
  s.dim = static_cast<int>(random.pick({2, 8, 64, 80, 128}));
  s.scale = 1 / std::sqrt(static_cast<float>(s.dim));
  s.window = random.pick({0, 0, 1, 17, 63, 64, 65, 100});
  s.epsilon = 1e-5f;
  q.tokens = random.chance() ? random.pick({1, 2, 63, 64, 65, 127, 128, 129}) : random.whole(1, s.dim < 64 ? 400 : 150);
  q.capacity = (q.tokens + kPageTokens - 1) / kPageTokens * kPageTokens + random.whole(0, 2) * kPageTokens;
  q.qkv = random.normals(q.tokens * q.width());
  if (random.chance()) q.query_norm = random.normals(s.dim), q.key_norm = random.normals(s.dim);
  if (random.chance())
    for (int64_t position = 0; position < q.tokens; ++position)
      for (int d = 0; d < s.dim / 2; ++d) {
        const double angle = static_cast<double>(position) * std::pow(1e4, -2.0 * d / s.dim);
        q.cos.push_back(static_cast<float>(std::cos(angle)));
        q.sin.push_back(static_cast<float>(std::sin(angle)));
      }
  // The end of the memory is the end of the table.
  q.cos.shrink_to_fit();
  q.sin.shrink_to_fit();
  return q;
}

std::string described(const Sequence& q, uint64_t seed) {
  const AttentionShape& s = q.shape;
  return "attention --seed " + std::to_string(seed) + " --cases 1: " + std::to_string(s.heads) + " heads over " +
         std::to_string(s.kv_heads) + " of " + std::to_string(s.dim) + ", " + std::to_string(q.tokens) + " tokens, window " +
         std::to_string(s.window) + (q.query_norm.empty() ? "" : ", norms") + (q.cos.empty() ? "" : ", rotary");
}

// One head of one token, normed and turned.
std::vector<double> turned(const Sequence& q, int64_t token, int head, const std::vector<float>& norm) {
  const int dim = q.shape.dim, half = dim / 2;
  const float* x = q.qkv.data() + token * q.width() + head * dim;
  std::vector<double> v(x, x + dim);
  if (!norm.empty()) {
    double squares = 0;
    for (double each : v) squares += each * each;
    for (int d = 0; d < dim; ++d) v[d] *= norm[d] / std::sqrt(squares / dim + q.shape.epsilon);
  }
  if (q.cos.empty()) return v;
  std::vector<double> out(dim);
  for (int d = 0; d < half; ++d) {
    const double c = q.cos[token * half + d], s = q.sin[token * half + d];
    out[d] = v[d] * c - v[half + d] * s;
    out[half + d] = v[half + d] * c + v[d] * s;
  }
  return out;
}

void check_against_reference(const Sequence& q, const std::vector<float>& out) {
  const AttentionShape& s = q.shape;
  for (int head = 0; head < s.heads; ++head) {
    const int kv = head / q.group();
    std::vector<std::vector<double>> keys;
    for (int64_t t = 0; t < q.tokens; ++t) keys.push_back(turned(q, t, s.heads + kv, q.key_norm));
    for (int64_t t = 0; t < q.tokens; ++t) {
      const std::vector<double> query = turned(q, t, head, q.query_norm);
      const int64_t oldest = s.window ? std::max<int64_t>(0, t + 1 - s.window) : 0;
      std::vector<double> weights;
      double top = -1e300, size = 0;
      for (int64_t k = oldest; k <= t; ++k) {
        double score = 0, products = 0;
        for (int d = 0; d < s.dim; ++d) {
          score += query[d] * keys[k][d];
          products += std::fabs(query[d] * keys[k][d]);
        }
        weights.push_back(score * s.scale);
        top = std::max(top, score * s.scale);
        size = std::max(size, products * s.scale);
      }
      double sum = 0;
      for (double& w : weights) sum += w = std::exp(w - top);
      for (int d = 0; d < s.dim; ++d) {
        double value = 0, largest = 0;
        for (int64_t k = oldest; k <= t; ++k) {
          const double v = q.qkv[k * q.width() + (s.heads + s.kv_heads + kv) * s.dim + d];
          value += weights[k - oldest] / sum * v;
          largest = std::max(largest, std::fabs(v));
        }
        const double off = std::fabs(out[(t * s.heads + head) * s.dim + d] - value);
        CHECK(off <= 1e-6 * (4 + size) * largest);
      }
    }
  }
}

// The sequence read in chunks that end at `ends`, into a cache of NaN.
std::vector<float> read(const Sequence& q, const std::vector<int64_t>& ends, int threads) {
  const AttentionShape& s = q.shape;
  const std::vector<float> nothing(static_cast<size_t>(s.kv_heads * q.capacity * s.dim), std::nanf(""));
  std::vector<float> keys = nothing, values = nothing, out;
  int64_t past = 0;
  for (const int64_t end : ends) {
    const std::vector<float> chunk(q.qkv.begin() + past * q.width(), q.qkv.begin() + end * q.width());
    std::vector<float> part(static_cast<size_t>((end - past) * s.heads * s.dim), std::nanf(""));
    AttentionArguments args;
    args.qkv = chunk.data();
    args.tokens = end - past;
    args.past = past;
    args.keys = keys.data();
    args.values = values.data();
    args.capacity = q.capacity;
    args.query_norm = or_null(q.query_norm);
    args.key_norm = or_null(q.key_norm);
    args.cos = or_null(q.cos);
    args.sin = or_null(q.sin);
    args.out = part.data();
    attention(s, args, Team::of(threads));
    out.insert(out.end(), part.begin(), part.end());
    past = end;
  }
  for (int head = 0; head < s.kv_heads; ++head)
    for (int64_t t = 0; t < q.capacity; ++t)
      for (int d = 0; d < s.dim; ++d) {
        const int64_t page = (head * q.capacity + t / kPageTokens * kPageTokens) * s.dim;
        CHECK(std::isnan(keys[page + d * kPageTokens + t % kPageTokens]) == (t >= q.tokens));
        CHECK(std::isnan(values[(head * q.capacity + t) * s.dim + d]) == (t >= q.tokens));
      }
  return out;
}

std::vector<std::vector<int64_t>> cuts(const Sequence& q, Random& random) {
  std::vector<int64_t> singly, few;
  for (int64_t t = 1; t <= q.tokens; ++t) singly.push_back(t);
  for (int i = 0; i < 4; ++i) few.push_back(random.whole(1, q.tokens));
  few.push_back(q.tokens);
  std::sort(few.begin(), few.end());
  few.erase(std::unique(few.begin(), few.end()), few.end());
  // A chunk of no tokens changes nothing.
  std::vector<int64_t> empty = few;
  empty.insert(empty.begin(), 0);
  return {{q.tokens}, singly, few, empty};
}

void test_sequence(uint64_t seed) {
  Random random(seed);
  const Sequence q = random_sequence(random);
  const std::string what = described(q, seed);
  trying = what;
  CHECK(choose("plain") == Chosen::ok);
  const std::vector<float> first = read(q, {q.tokens}, 1);
  check_against_reference(q, first);
  const auto ways = cuts(q, random);
  for (const Kernels* set : runnable()) {
    CHECK(choose(set->name) == Chosen::ok);
    int turn = static_cast<int>(random.whole(0, 3));
    for (const auto& ends : ways) {
      const int threads = kThreads[turn++ % 4];
      trying = what + ", " + set->name + ", " + std::to_string(threads) + " threads, " + std::to_string(ends.size()) +
               " chunks";
      CHECK(same(read(q, ends, threads), first));
    }
  }
}

}  // namespace

void test_attention(const Options& options) {
  const int cases = options.cases ? options.cases : 40;
  for (int i = 0; i < cases; ++i) test_sequence(options.seed + static_cast<uint64_t>(i));
  choose("auto");
}

}  // namespace edgewise::test
