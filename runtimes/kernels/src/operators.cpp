// What ONNX Runtime calls when the library is registered with a session.
#include "operators.h"

#include <initializer_list>

using namespace edgewise;

extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(ort::Options* options,
                                                                                 const ort::ApiBase* base) {
  const ort::Api* api = base->get(ort::kApiVersion);
  if (!api) return base->get(1)->status(ort::kFail, "ONNX Runtime is older than 1.16; upgrade it");
  ort::Domain* domain = nullptr;
  if (ort::Status* status = api->create_domain("edgewise", &domain)) return status;
  for (const ort::CustomOp* op : {linear_operator(), embedding_operator(), attention_operator()})
    if (ort::Status* status = api->add_operator(domain, op)) return status;
  return api->add_domain(options, domain);
}
