// Linear layers and embeddings against double precision, and the same bits from every instruction set, team and batch.
#include "linear.h"

#include <algorithm>
#include <limits>

#include "check.h"
#include "isa.h"
#include "linear_reference.h"

namespace edgewise::test {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr int kThreads[] = {1, 2, 3, 8};

// One layer with what it is given; every vector ends where its memory ends.
struct Layer {
  Matrix matrix;
  Packed packed;
  int64_t rows;  // of x
  std::vector<float> x, norm, bias, residual;

  Layer(const Shape& shape, int64_t rows, Random& random) : matrix(shape, random), packed(matrix), rows(rows) {
    x = random.normals(rows * shape.inputs, std::pow(10.0f, static_cast<float>(random.uniform(-3, 3))));
    if (random.chance()) norm = random.normals(shape.inputs);
    if (random.chance()) bias = random.normals(shape.rows);
    if (random.chance()) residual = random.normals(rows * shape.outputs());
  }

  LinearArguments arguments(std::vector<float>& out) const {
    out.assign(static_cast<size_t>(rows * matrix.shape.outputs()), std::nanf(""));
    return {x.data(), rows, packed.data(), or_null(norm), kEpsilon, or_null(bias), or_null(residual), out.data()};
  }

  std::vector<float> run(int threads) const {
    std::vector<float> out;
    const LinearArguments args = arguments(out);
    linear(matrix.shape, args, Team::of(threads));
    return out;
  }

  std::vector<float> run_row(int64_t row) const {
    const int64_t inputs = matrix.shape.inputs, outputs = matrix.shape.outputs();
    const std::vector<float> alone(x.begin() + row * inputs, x.begin() + (row + 1) * inputs);
    std::vector<float> out(static_cast<size_t>(outputs));
    linear(matrix.shape,
           {alone.data(), 1, packed.data(), or_null(norm), kEpsilon, or_null(bias),
            residual.empty() ? nullptr : residual.data() + row * outputs, out.data()},
           Team::of(2));
    return out;
  }

  std::vector<float> run_in_place() const {
    std::vector<float> out = residual;
    LinearArguments args{x.data(), rows, packed.data(), or_null(norm), kEpsilon, or_null(bias), out.data(), out.data()};
    linear(matrix.shape, args, Team::of(2));
    return out;
  }
};

std::string described(const Layer& layer, uint64_t seed) {
  const Shape& s = layer.matrix.shape;
  std::string text = "linear --seed " + std::to_string(seed) + " --cases 1: " + std::to_string(s.rows) + " x " +
                     std::to_string(s.inputs) + ", " + std::to_string(s.bits) + " bits, blocks of " +
                     std::to_string(s.block) + ", " + std::to_string(layer.rows) + " rows of x";
  if (s.zero_points) text += ", zero points";
  if (s.gated) text += ", gated";
  if (!layer.norm.empty()) text += ", norm";
  if (!layer.bias.empty()) text += ", bias";
  if (!layer.residual.empty()) text += ", residual";
  return text;
}

void use(const Kernels* set, const std::string& what) {
  CHECK(choose(set->name) == Chosen::ok);
  trying = what + ", " + set->name;
}

Shape random_shape(Random& random) {
  Shape s;
  s.bits = static_cast<int>(random.pick({4, 5, 6, 8}));
  s.block = static_cast<int>(random.pick({32, 64, 128}));
  s.zero_points = random.chance();
  s.gated = random.chance();
  s.rows = random.whole(1, random.pick({4, 40, 100})) * (s.gated ? 2 : 1);
  s.inputs = random.whole(1, random.pick({8, 130, 400}));
  return s;
}

void check_against_reference(const Layer& layer, const std::vector<float>& out) {
  const Shape& s = layer.matrix.shape;
  const int64_t outputs = s.outputs();
  for (int64_t m = 0; m < layer.rows; ++m) {
    const std::vector<Expected> row =
        expected_row(layer.matrix, layer.x.data() + m * s.inputs, or_null(layer.norm), kEpsilon, or_null(layer.bias),
                     layer.residual.empty() ? nullptr : layer.residual.data() + m * outputs);
    for (int64_t o = 0; o < outputs; ++o) {
      const double off = std::fabs(out[m * outputs + o] - row[o].value);
      CHECK(off <= row[o].tolerance);
    }
  }
}

void check_embedding(const Matrix& matrix, const Packed& packed) {
  const Shape& s = matrix.shape;
  std::vector<float> out(static_cast<size_t>(s.inputs));
  for (int64_t row = 0; row < s.rows; ++row) {
    embed(s, packed.data(), row, out.data());
    for (int64_t i = 0; i < s.inputs; ++i) {
      const int64_t b = i / s.block;
      CHECK(out[i] == static_cast<float>(matrix.code(row, i) - matrix.zero(row, b)) * matrix.scale(row, b));
    }
  }
}

void check_sets_and_teams(const Layer& layer, const std::vector<float>& first, const std::string& what) {
  const int64_t outputs = layer.matrix.shape.outputs();
  for (const Kernels* set : runnable()) {
    use(set, what);
    for (const int threads : kThreads) CHECK(same(layer.run(threads), first));
    for (const int64_t row : {int64_t{0}, layer.rows / 2, layer.rows - 1})
      CHECK(same(layer.run_row(row).data(), first.data() + row * outputs, outputs));
    if (!layer.residual.empty()) CHECK(same(layer.run_in_place(), first));
  }
}

void test_shapes(uint64_t seed) {
  Random random(seed);
  const Shape shape = random_shape(random);
  const int64_t rows = random.whole(0, 15) ? random.whole(1, 9) : 130;
  const Layer layer(shape, rows, random);
  const std::string what = described(layer, seed);
  use(&kPlain, what);
  const std::vector<float> first = layer.run(1);
  check_against_reference(layer, first);
  check_sets_and_teams(layer, first, what);
  if (!shape.gated) check_embedding(layer.matrix, layer.packed);
}

// Rows that are not finite, or at the ends of what floats hold, among others.
void test_extremes(uint64_t seed) {
  Random random(seed);
  const Layer calm(random_shape(random), random.whole(2, 9), random);
  Layer layer = calm;
  const int64_t inputs = layer.matrix.shape.inputs, outputs = layer.matrix.shape.outputs();
  const int64_t spoilt = random.whole(0, layer.rows - 1);
  const float infinity = std::numeric_limits<float>::infinity();
  const float values[] = {std::nanf(""), infinity, -infinity, 1e-40f, -1e-45f, 0.0f, -0.0f, 1e-38f, 3e38f, -3e38f, 1e-35f};
  const float value = values[random.whole(0, 10)];
  float* row = layer.x.data() + spoilt * inputs;
  if (random.chance())
    std::fill(row, row + inputs, value);
  else
    row[random.whole(0, inputs - 1)] = value;
  const std::string what = described(layer, seed) + ", " + std::to_string(value) + " in row " + std::to_string(spoilt);
  use(&kPlain, what);
  const std::vector<float> before = calm.run(1), first = layer.run(1);
  for (int64_t m = 0; m < layer.rows; ++m)
    if (m != spoilt) CHECK(same(before.data() + m * outputs, first.data() + m * outputs, outputs));
  for (int64_t o = 0; o < outputs; ++o)
    if (!std::isfinite(value)) CHECK(!std::isfinite(first[spoilt * outputs + o]));
  // Above, squares and products of floats overflow.
  if (std::isfinite(value) && std::fabs(value) < 1) check_against_reference(layer, first);
  check_sets_and_teams(layer, first, what);
}

// More panels than a job has chunks.
void test_many_panels(uint64_t seed) {
  Random random(seed);
  Shape shape;
  shape.rows = int64_t{16} * 65537 - 3;
  shape.inputs = 1;
  const Layer layer(shape, 2, random);
  use(runnable().back(), described(layer, seed));
  const std::vector<float> first = layer.run(1);
  CHECK(same(layer.run(3), first));
  check_against_reference(layer, first);
}

void test_no_rows() {
  Random random(1);
  const Layer layer(random_shape(random), 0, random);
  trying = "no rows of x";
  CHECK(layer.run(2).empty());
}

}  // namespace

void test_linear(const Options& options) {
  const int cases = options.cases ? options.cases : 250;
  for (int i = 0; i < cases; ++i) {
    test_shapes(options.seed + static_cast<uint64_t>(i));
    test_extremes(options.seed + static_cast<uint64_t>(i));
  }
  test_many_panels(options.seed);
  test_no_rows();
  choose("auto");
}

}  // namespace edgewise::test
