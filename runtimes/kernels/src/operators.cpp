// The operators of the domain `edgewise` as ONNX Runtime sees them: attributes and shapes checked, then linear.h.
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "linear.h"
#include "ort_api.h"
#include "threads.h"

namespace edgewise {
namespace {

using namespace ort;

// Thrown inside this file only, returned to ONNX Runtime as a status.
struct Refused {
  std::string message;
};

[[noreturn]] void refuse(std::string message) { throw Refused{std::move(message)}; }

// A status that an entry of the interface returned, given on as it is.
struct Failed {
  Status* status;
};

void check(Status* status) {
  if (status) throw Failed{status};
}

template <class F>
Status* guarded(const Api* api, F&& f) {
  try {
    f();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const Refused& refused) {
    return api->status(kInvalidArgument, refused.message.c_str());
  } catch (const std::bad_alloc&) {
    return api->status(kFail, "the system refused memory for activations; use a shorter prompt chunk");
  } catch (...) {
    return api->status(kFail, "an unexpected error");
  }
}

// Dimensions and data of a tensor; data is null where an optional input is missing.
struct Tensor {
  std::vector<int64_t> dims;
  void* data = nullptr;

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t d : dims) n *= d;
    return n;
  }
  std::string text() const {
    std::string out = "[";
    for (int64_t d : dims) out += (out.size() > 1 ? ", " : "") + std::to_string(d);
    return out + "]";
  }
};

Tensor input(const Api* api, const Context* context, size_t index) {
  Tensor tensor;
  size_t count = 0;
  check(api->input_count(context, &count));
  if (index >= count) return tensor;
  const Value* value = nullptr;
  check(api->input(context, index, &value));
  if (!value) return tensor;
  TensorInfo* info = nullptr;
  check(api->tensor_info(value, &info));
  const auto release = [api](TensorInfo* i) { api->release(i); };
  const std::unique_ptr<TensorInfo, decltype(release)> held(info, release);
  size_t rank = 0;
  check(api->rank(info, &rank));
  tensor.dims.resize(rank);
  check(api->dims(info, tensor.dims.data(), rank));
  check(api->data(value, &tensor.data));
  return tensor;
}

float* output(const Api* api, Context* context, const std::vector<int64_t>& dims) {
  Value* value = nullptr;
  void* data = nullptr;
  check(api->output(context, 0, dims.data(), dims.size(), &value));
  check(api->data(value, &data));
  return static_cast<float*>(data);
}

void expect(const Tensor& tensor, int64_t elements, const char* what) {
  if (tensor.data && tensor.elements() != elements)
    refuse(std::string(what) + " has the shape " + tensor.text() + ", expected " + std::to_string(elements) +
           " elements; export the artifact again");
}

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
  const uint8_t* weights(const Context* context) const {
    const Tensor w = input(api_, context, 1);
    expect(w, shape_.bytes(), "the weights tensor");
    return static_cast<const uint8_t*>(w.data);
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

  Linear(const Api* api, const Info* info) : Matrix(api, info, true), team_(Team::of(current_threads())) {
    check(api->attribute(info, "epsilon", &epsilon_));
  }

  void compute(Context* context) {
    const Tensor x = input(api_, context, 0);
    if (x.dims.empty() || x.dims.back() != shape_.inputs)
      refuse("x has the shape " + x.text() + ", expected [..., " + std::to_string(shape_.inputs) + "]");
    LinearArguments args;
    args.weights = weights(context);
    const Tensor norm = input(api_, context, 2), bias = input(api_, context, 3), residual = input(api_, context, 4);
    args.x = static_cast<const float*>(x.data);
    args.rows = x.elements() / shape_.inputs;
    expect(norm, shape_.inputs, "the norm");
    expect(bias, shape_.rows, "the bias");
    expect(residual, args.rows * shape_.outputs(), "the residual");
    args.norm = static_cast<const float*>(norm.data);
    args.epsilon = epsilon_;
    args.bias = static_cast<const float*>(bias.data);
    args.residual = static_cast<const float*>(residual.data);
    std::vector<int64_t> dims = x.dims;
    dims.back() = shape_.outputs();
    args.out = output(api_, context, dims);
    linear(shape_, args, team_);
  }

 private:
  float epsilon_ = 0;
  Team& team_;
};

class Embedding : Matrix {
 public:
  static constexpr const char* kName = "Embedding";
  static constexpr Element kInputs[] = {kInt64, kUint8};
  static constexpr size_t kRequired = 2;

  Embedding(const Api* api, const Info* info) : Matrix(api, info, false) {}

  void compute(Context* context) {
    const Tensor ids = input(api_, context, 0);
    const uint8_t* w = weights(context);
    std::vector<int64_t> dims = ids.dims;
    dims.push_back(shape_.inputs);
    float* out = output(api_, context, dims);
    const int64_t* id = static_cast<const int64_t*>(ids.data);
    for (int64_t i = 0; i < ids.elements(); ++i) {
      if (id[i] < 0 || id[i] >= shape_.rows)
        refuse("token " + std::to_string(id[i]) + " is not in the vocabulary of " + std::to_string(shape_.rows));
      embed(shape_, w, id[i], out + i * shape_.inputs);
    }
  }
};

template <class Kernel>
struct Operator : CustomOp {
  Operator() {
    name = [](const CustomOp*) { return Kernel::kName; };
    provider = [](const CustomOp*) -> const char* { return nullptr; };
    input_types = [](const CustomOp*) { return std::size(Kernel::kInputs); };
    input_type = [](const CustomOp*, size_t i) { return Kernel::kInputs[i]; };
    input_characteristic = [](const CustomOp*, size_t i) { return i < Kernel::kRequired ? 0 : 1; };
    input_memory = [](const CustomOp*, size_t) { return 0; };
    output_types = [](const CustomOp*) -> size_t { return 1; };
    output_type = [](const CustomOp*, size_t) { return kFloat; };
    output_characteristic = [](const CustomOp*, size_t) { return 0; };
    variadic_input_least = variadic_output_least = [](const CustomOp*) { return 1; };
    variadic_input_alike = variadic_output_alike = [](const CustomOp*) { return 1; };
    create_kernel_2 = [](const CustomOp*, const Api* api, const Info* info, void** kernel) {
      return guarded(api, [&] { *kernel = new Held{api, Kernel(api, info)}; });
    };
    compute_2 = [](void* kernel, Context* context) {
      Held* held = static_cast<Held*>(kernel);
      return guarded(held->api, [&] { held->kernel.compute(context); });
    };
    destroy = [](void* kernel) { delete static_cast<Held*>(kernel); };
  }

  struct Held {
    const Api* api;
    Kernel kernel;
  };
};

}  // namespace
}  // namespace edgewise

extern "C" __attribute__((visibility("default"))) edgewise::ort::Status* RegisterCustomOps(
    edgewise::ort::Options* options, const edgewise::ort::ApiBase* base) {
  using namespace edgewise;
  const ort::Api* api = base->get(ort::kApiVersion);
  if (!api) return nullptr;
  // The domain and its operators outlive every session.
  static const auto& linear = *new Operator<Linear>;
  static const auto& embedding = *new Operator<Embedding>;
  ort::Domain* domain = nullptr;
  if (ort::Status* status = api->create_domain("edgewise", &domain)) return status;
  if (ort::Status* status = api->add_operator(domain, &linear)) return status;
  if (ort::Status* status = api->add_operator(domain, &embedding)) return status;
  return api->add_domain(options, domain);
}
