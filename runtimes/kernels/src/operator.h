// What every operator needs: its tensors, errors as statuses, and the structure ONNX Runtime knows it by.
#pragma once

#include <iterator>
#include <memory>
#include <new>
#include <string>

#include "ort_api.h"

namespace edgewise::ort {

// Thrown by operators, returned to ONNX Runtime as a status.
struct Refused {
  std::string message;
};

[[noreturn]] inline void refuse(std::string message) { throw Refused{std::move(message)}; }

// A status that an entry of the interface returned, given on as it is.
struct Failed {
  Status* status;
};

inline void check(Status* status) {
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
  static constexpr size_t kMostDimensions = 8;

  size_t rank = 0;
  int64_t dims[kMostDimensions];
  void* data = nullptr;

  int64_t elements() const {
    int64_t n = 1;
    for (size_t i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  std::string text() const {
    std::string out = "[";
    for (size_t i = 0; i < rank; ++i) out += (i ? ", " : "") + std::to_string(dims[i]);
    return out + "]";
  }
};

// The inputs of an operator, `Kernel::kInputs` says of which types. Those that no run can change are read once.
template <class Kernel>
class Inputs {
 public:
  Inputs(const Api* api, const Info* info) : api_(api) {
    for (size_t i = 0; i < kCount; ++i) {
      int constant = 0;
      const Value* value = nullptr;
      Status* status = api->constant_input(info, i, &constant, &value);
      if (status)
        api->release(status);
      else if (constant && value)
        constants_[i] = read(value, i);
    }
  }

  Tensor get(const Context* context, size_t index) const {
    if (constants_[index].data) return constants_[index];
    size_t count = 0;
    check(api_->input_count(context, &count));
    const Value* value = nullptr;
    if (index < count) check(api_->input(context, index, &value));
    return value ? read(value, index) : Tensor{};
  }

 private:
  static constexpr size_t kCount = std::size(Kernel::kInputs);

  Tensor read(const Value* value, size_t index) const {
    const Api* api = api_;
    TensorInfo* info = nullptr;
    check(api->tensor_info(value, &info));
    const auto release = [api](TensorInfo* i) { api->release(i); };
    const std::unique_ptr<TensorInfo, decltype(release)> held(info, release);
    // An initializer that was given to the session is not compared with the operator's types.
    Element element{};
    check(api->element(info, &element));
    const Element expected = Kernel::kInputs[index];
    if (element != expected)
      refuse("input " + std::to_string(index) + " has the element type " + std::to_string(element) + ", expected " +
             std::to_string(expected) + "; export the artifact again");
    Tensor tensor;
    check(api->rank(info, &tensor.rank));
    if (tensor.rank > Tensor::kMostDimensions)
      refuse("input " + std::to_string(index) + " has " + std::to_string(tensor.rank) + " dimensions, expected at most " +
             std::to_string(Tensor::kMostDimensions) + "; export the artifact again");
    check(api->dims(info, tensor.dims, tensor.rank));
    check(api->data(value, &tensor.data));
    return tensor;
  }

  const Api* api_;
  Tensor constants_[kCount];
};

inline float* output(const Api* api, Context* context, const int64_t* dims, size_t rank) {
  Value* value = nullptr;
  void* data = nullptr;
  check(api->output(context, 0, dims, rank, &value));
  check(api->data(value, &data));
  return static_cast<float*>(data);
}

inline void expect(const Tensor& tensor, int64_t elements, const char* what) {
  if (tensor.data && tensor.elements() != elements)
    refuse(std::string(what) + " has the shape " + tensor.text() + ", expected " + std::to_string(elements) +
           " elements; export the artifact again");
}

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

}  // namespace edgewise::ort
