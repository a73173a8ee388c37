// The part of ONNX Runtime's C interface that this library calls, declared here: its headers come with no package.
// A table of functions whose order never changes between versions, and the structure an operator is described by.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgewise::ort {

// In ONNX Runtime from 1.16 on; the first whose operators can return an error.
constexpr uint32_t kApiVersion = 16;

struct Status;
struct Value;
struct Info;
struct Context;
struct Domain;
struct Options;
struct TensorInfo;
struct CustomOp;

enum Element : int { kFloat = 1, kUint8 = 2, kInt32 = 6, kInt64 = 7 };
enum Error : int { kFail = 1, kInvalidArgument = 2 };

struct Api {
  void* const entries[256];

  template <int slot, class Result, class... Arguments>
  Result call(Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(entries[slot])(arguments...);
  }

  Status* status(Error code, const char* message) const { return call<0, Status*>(code, message); }
  Status* create_domain(const char* name, Domain** out) const { return call<26, Status*>(name, out); }
  Status* add_operator(Domain* domain, const CustomOp* op) const { return call<27, Status*>(domain, op); }
  Status* add_domain(Options* options, Domain* domain) const { return call<28, Status*>(options, domain); }
  Status* data(const Value* value, void** out) const {
    return call<51, Status*>(const_cast<Value*>(value), out);
  }
  Status* element(const TensorInfo* info, Element* out) const { return call<60, Status*>(info, out); }
  Status* rank(const TensorInfo* info, size_t* out) const { return call<61, Status*>(info, out); }
  Status* dims(const TensorInfo* info, int64_t* out, size_t rank) const { return call<62, Status*>(info, out, rank); }
  Status* tensor_info(const Value* value, TensorInfo** out) const { return call<65, Status*>(value, out); }
  Status* attribute(const Info* info, const char* name, float* out) const { return call<85, Status*>(info, name, out); }
  Status* attribute(const Info* info, const char* name, int64_t* out) const { return call<86, Status*>(info, name, out); }
  Status* input_count(const Context* context, size_t* out) const { return call<88, Status*>(context, out); }
  Status* input(const Context* context, size_t index, const Value** out) const {
    return call<90, Status*>(context, index, out);
  }
  Status* output(Context* context, size_t index, const int64_t* dims, size_t rank, Value** out) const {
    return call<91, Status*>(context, index, dims, rank, out);
  }
  // The value of an input that no run can change; `constant` says whether it is one.
  Status* constant_input(const Info* info, size_t index, int* constant, const Value** out) const {
    return call<249, Status*>(info, index, constant, out);
  }
  void release(Status* status) const { call<93, void>(status); }
  void release(TensorInfo* info) const { call<99, void>(info); }
};

struct ApiBase {
  const Api* (*get)(uint32_t version);
  const char* (*version)();
};

struct CustomOp {
  uint32_t version = kApiVersion;
  void* (*create_kernel)(const CustomOp*, const Api*, const Info*) = nullptr;
  const char* (*name)(const CustomOp*) = nullptr;
  const char* (*provider)(const CustomOp*) = nullptr;
  Element (*input_type)(const CustomOp*, size_t) = nullptr;
  size_t (*input_types)(const CustomOp*) = nullptr;
  Element (*output_type)(const CustomOp*, size_t) = nullptr;
  size_t (*output_types)(const CustomOp*) = nullptr;
  void (*compute)(void* kernel, Context*) = nullptr;
  void (*destroy)(void* kernel) = nullptr;
  int (*input_characteristic)(const CustomOp*, size_t) = nullptr;   // 0 required, 1 optional
  int (*output_characteristic)(const CustomOp*, size_t) = nullptr;
  int (*input_memory)(const CustomOp*, size_t) = nullptr;
  int (*variadic_input_least)(const CustomOp*) = nullptr;
  int (*variadic_input_alike)(const CustomOp*) = nullptr;
  int (*variadic_output_least)(const CustomOp*) = nullptr;
  int (*variadic_output_alike)(const CustomOp*) = nullptr;
  Status* (*create_kernel_2)(const CustomOp*, const Api*, const Info*, void** kernel) = nullptr;
  Status* (*compute_2)(void* kernel, Context*) = nullptr;
};

}  // namespace edgewise::ort
