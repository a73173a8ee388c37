// Plain C++ for any CPU.
#include "kernels.h"
#include "short_floats.h"

namespace edgewise {
namespace {

struct Lanes {
  static constexpr int width = kPanelRows;
  static constexpr int vector_bytes = 16;
  static constexpr int tile_rows = 4, pair_rows = 0;
  static constexpr int attend_rows = 3;
  struct Codes {
    uint8_t bytes[4 * width];
  };
  struct Ints {
    int32_t of[width];
  };
  struct Floats {
    float of[width];
  };
  using Four = const int8_t*;

  template <class Out, class F>
  static Out each(F f) {
    Out out;
    for (int r = 0; r < width; ++r) out.of[r] = f(r);
    return out;
  }

  static Codes load(const uint8_t* p) {
    Codes c;
    __builtin_memcpy(c.bytes, p, sizeof c.bytes);
    return c;
  }
  static Four broadcast(const int8_t* a) { return a; }
  static Codes low(Codes c) {
    for (uint8_t& byte : c.bytes) byte &= 15;
    return c;
  }
  static Codes high(Codes c) {
    for (uint8_t& byte : c.bytes) byte >>= 4;
    return c;
  }
  template <int upper>
  static Codes low(Codes c, const Codes& u) {
    for (int i = 0; i < 4 * width; ++i) c.bytes[i] = (c.bytes[i] & 15) | (u.bytes[i] & kLowest<upper> & 15) << 4;
    return c;
  }
  template <int upper>
  static Codes high(Codes c, const Codes& u) {
    for (int i = 0; i < 4 * width; ++i) c.bytes[i] = c.bytes[i] >> 4 | (u.bytes[i] & kLowest<upper> & 240);
    return c;
  }
  template <int upper>
  static Codes next(Codes u) {
    for (uint8_t& byte : u.bytes) byte >>= upper;
    return u;
  }

  template <Scale kind>
  static Floats scales(const uint8_t* p) {
    return each<Floats>([p](int r) {
      const auto bits = static_cast<uint16_t>(p[2 * r + 1] << 8 | p[2 * r]);
      return kind == Scale::float16 ? of_half(bits) : from_bfloat16(bits);
    });
  }
  static Ints zeros4(const uint8_t* p, int) {
    return each<Ints>([p](int r) { return r < 8 ? p[r] & 15 : p[r - 8] >> 4; });
  }
  static Ints zeros8(const uint8_t* p) {
    return each<Ints>([p](int r) { return p[r]; });
  }

  static Ints splat(int32_t x) {
    return each<Ints>([x](int) { return x; });
  }
  static Ints plus(const Ints& a, const Ints& b) {
    return each<Ints>([&](int r) { return a.of[r] + b.of[r]; });
  }
  static Ints minus(const Ints& a, const Ints& b) {
    return each<Ints>([&](int r) { return a.of[r] - b.of[r]; });
  }
  static Ints times(const Ints& a, int32_t x) {
    return each<Ints>([&](int r) { return a.of[r] * x; });
  }
  static Floats floats(const Ints& a) {
    return each<Floats>([&](int r) { return static_cast<float>(a.of[r]); });
  }
  static Floats plus(const Floats& a, const Floats& b) {
    return each<Floats>([&](int r) { return a.of[r] + b.of[r]; });
  }
  static Floats product(const Floats& a, const Floats& b) {
    return each<Floats>([&](int r) { return a.of[r] * b.of[r]; });
  }
  static Floats scaled(const Floats& a, float x) {
    return each<Floats>([&](int r) { return a.of[r] * x; });
  }
  static void store(float* p, const Floats& v) { __builtin_memcpy(p, v.of, sizeof v.of); }

  using Real = float __attribute__((vector_size(vector_bytes)));
  using Whole = int32_t __attribute__((vector_size(vector_bytes)));
  static float highest(Real v) {
    const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  static float fold(Real v) { return (v[0] + v[2]) + (v[1] + v[3]); }
  static int32_t highest(Whole v) {
    const int32_t a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
  }
  static int32_t sum(Whole v) { return v[0] + v[1] + v[2] + v[3]; }
  static void store_bytes(int8_t* p, Whole v) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(v[i]);
  }

  static constexpr int offset(int) { return 0; }
  static constexpr int steps(int) { return kSteps; }
  template <int bits>
  struct Dot {
    Ints total;
    Dot() = default;
    explicit Dot(const Ints& start) : total(start) {}
    void add(const Codes& codes, Four a) {
      for (int r = 0; r < width; ++r)
        for (int j = 0; j < 4; ++j) total.of[r] += codes.bytes[4 * r + j] * a[j];
    }
    Ints sum() const { return total; }
  };
  static constexpr int weight_planes = 1;
  struct Weighed {
    Ints total;
    Weighed() = default;
    explicit Weighed(const Ints& start) : total(start) {}
    void add(const Codes& values, Four weights) {
      for (int r = 0; r < width; ++r)
        for (int j = 0; j < 4; ++j)
          total.of[r] += static_cast<int8_t>(values.bytes[4 * r + j]) * static_cast<uint8_t>(weights[j]);
    }
    Ints sum() const { return total; }
  };
};

#include "vectors.h"
#include "activations.h"
#include "keep.h"
#include "multiply.h"
#include "outputs.h"
#include "attend_floats.h"
#include "attend_codes.h"
#include "attend.h"

}  // namespace

const Kernels kPlain = {"plain", Lanes::tile_rows, quantize, multiply, turn, keep, turn_kept, attend_page, merge};

}  // namespace edgewise
