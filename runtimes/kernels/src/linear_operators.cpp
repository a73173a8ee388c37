// The operators Linear and Embedding: attributes and shapes checked, then linear.h.
#include "linear.h"

#include <atomic>
#include <memory>
#include <string>

#include "operator.h"
#include "operators.h"
#include "threads.h"

namespace edgewise {
namespace {

using namespace ort;

class Matrix {
 public:
  Matrix(const Api* api, const Info* info, bool gated) : api_(api) {
    shape_.inputs = integer(info, "inputs");
    shape_.rows = integer(info, "rows");
    shape_.bits = static_cast<int>(integer(info, "bits"));
    shape_.block = static_cast<int>(integer(info, "block"));
    shape_.zero_points = integer(info, "zero_points") != 0;
    shape_.gated = gated && integer(info, "gated") != 0;
    const int64_t layout = integer(info, "layout");
    if (layout != kLayoutVersion)
      refuse("the weights have version " + std::to_string(layout) + " of the layout, this library reads version " +
             std::to_string(kLayoutVersion) + "; install the edgewise that wrote the artifact or export it again");
    if (const char* fault = shape_.fault()) refuse(std::string(fault) + "; export the artifact again");
  }

 protected:
  const uint8_t* checked(const Tensor& weights) const {
    expect(weights, shape_.bytes(), "the weights tensor");
    return static_cast<const uint8_t*>(weights.data);
  }

  int64_t integer(const Info* info, const char* name) const {
    int64_t value = 0;
    check(api_->attribute(info, name, &value));
    return value;
  }

  const Api* api_;
  Shape shape_;
};

class Linear : Matrix {
 public:
  static constexpr const char* kName = "Linear";
  static constexpr Element kInputs[] = {kFloat, kUint8, kFloat, kFloat, kFloat};
  static constexpr size_t kRequired = 2;

  Linear(const Api* api, const Info* info)
      : Matrix(api, info, true), inputs_(api, info), team_(Team::of(current_threads())) {
    check(api->attribute(info, "epsilon", &epsilon_));
  }

  void compute(Context* context) {
    Tensor x = inputs_.get(context, 0);
    if (!x.rank || x.dims[x.rank - 1] != shape_.inputs)
      refuse("x has the shape " + x.text() + ", expected [..., " + std::to_string(shape_.inputs) + "]");
    LinearArguments args;
    args.weights = checked(inputs_.get(context, 1));
    const Tensor norm = inputs_.get(context, 2), bias = inputs_.get(context, 3), residual = inputs_.get(context, 4);
    args.x = static_cast<const float*>(x.data);
    args.rows = x.elements() / shape_.inputs;
    expect(norm, shape_.inputs, "the norm");
    expect(bias, shape_.rows, "the bias");
    expect(residual, args.rows * shape_.outputs(), "the residual");
    args.norm = static_cast<const float*>(norm.data);
    args.epsilon = epsilon_;
    args.bias = static_cast<const float*>(bias.data);
    args.residual = static_cast<const float*>(residual.data);
    x.dims[x.rank - 1] = shape_.outputs();
    args.out = output(api_, context, x.dims, x.rank);
    foretell(args.weights);
    linear(shape_, args, team_);
  }

 private:
  // Layers follow each other in the same order for every token: each learns which comes behind it.
  void foretell(const uint8_t* weights) {
    static thread_local std::shared_ptr<Next> before;
    if (before) before->set(weights, coming_);
    before = next_;
    if (const uint8_t* next = next_->weights) team_.expect(next, next_->unit_bytes, next_->units);
  }

  // Another session's thread may set it meanwhile: what is seen in parts only misleads what is brought near.
  struct Next {
    std::atomic<const uint8_t*> weights{nullptr};
    std::atomic<int64_t> unit_bytes{0}, units{0};

    void set(const uint8_t* data, const Coming& coming) {
      weights.store(data, std::memory_order_relaxed);
      unit_bytes.store(coming.unit_bytes, std::memory_order_relaxed);
      units.store(coming.units, std::memory_order_relaxed);
    }
  };

  std::shared_ptr<Next> next_ = std::make_shared<Next>();
  Inputs<Linear> inputs_;
  const Coming coming_ = coming(shape_);
  float epsilon_ = 0;
  Team& team_;
};

class Embedding : Matrix {
 public:
  static constexpr const char* kName = "Embedding";
  static constexpr Element kInputs[] = {kInt64, kUint8};
  static constexpr size_t kRequired = 2;

  Embedding(const Api* api, const Info* info) : Matrix(api, info, false), inputs_(api, info) {}

  void compute(Context* context) {
    Tensor ids = inputs_.get(context, 0);
    const int64_t count = ids.elements();
    const uint8_t* w = checked(inputs_.get(context, 1));
    if (ids.rank == Tensor::kMostDimensions) refuse("the token ids have the shape " + ids.text());
    ids.dims[ids.rank++] = shape_.inputs;
    float* out = output(api_, context, ids.dims, ids.rank);
    const int64_t* id = static_cast<const int64_t*>(ids.data);
    for (int64_t i = 0; i < count; ++i) {
      if (id[i] < 0 || id[i] >= shape_.rows)
        refuse("token " + std::to_string(id[i]) + " is not in the vocabulary of " + std::to_string(shape_.rows));
      embed(shape_, w, id[i], out + i * shape_.inputs);
    }
  }

 private:
  Inputs<Embedding> inputs_;
};

}  // namespace

const CustomOp* linear_operator() {
  static const auto& op = *new Operator<Linear>;
  return &op;
}

const CustomOp* embedding_operator() {
  static const auto& op = *new Operator<Embedding>;
  return &op;
}

}  // namespace edgewise
