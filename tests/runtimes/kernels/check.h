// What the tests share: a check that says what was tried, and numbers of a seed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace edgewise::test {

// What is being tried, printed with a failure.
inline std::string trying;

// Leaves without the clean-up of exit(): other threads, or a parent's, may still be at work.
[[noreturn]] inline void fail(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: not so: %s\n  with %s\n", file, line, what, trying.c_str());
  std::fflush(stderr);
  std::_Exit(1);
}

#define CHECK(condition) \
  static_cast<void>((condition) || (::edgewise::test::fail(__FILE__, __LINE__, #condition), false))

// SplitMix64: the same numbers with every standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  // first to last, both among them.
  int64_t whole(int64_t first, int64_t last) {
    return first + static_cast<int64_t>(next() % static_cast<uint64_t>(last - first + 1));
  }
  bool chance() { return next() & 1; }
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(next() >> 11) * 0x1p-53; }
  float normal() {
    const double radius = std::sqrt(-2 * std::log(uniform(1e-12, 1)));
    return static_cast<float>(radius * std::cos(uniform(0, 6.283185307179586)));
  }
  int64_t pick(std::initializer_list<int64_t> from) {
    return from.begin()[whole(0, static_cast<int64_t>(from.size()) - 1)];
  }
  std::vector<float> normals(int64_t n, float scale = 1.0f) {
    std::vector<float> out(static_cast<size_t>(n));
    for (float& v : out) v = normal() * scale;
    return out;
  }

 private:
  uint64_t state_;
};

// The same bits, or both NaN, whose sign and payload are the CPU's affair.
inline bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, 4) == 0; }

inline bool same(const float* a, const float* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!same(a[i], b[i])) return false;
  return true;
}

inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && same(a.data(), b.data(), static_cast<int64_t>(a.size()));
}

inline const float* or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

// Case i of a test uses the seed `seed + i`; cases is 0 where each test is to choose.
struct Options {
  uint64_t seed = 1;
  int cases = 0;
  // QEMU's own threads do not outlive a fork.
  bool forks = true;
};

void test_linear(const Options& options);
void test_attention(const Options& options);
void test_team(const Options& options);

}  // namespace edgewise::test
