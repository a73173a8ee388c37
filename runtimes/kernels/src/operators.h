// The operators of the domain `edgewise`. They outlive every session.
#pragma once

#include "ort_api.h"

namespace edgewise {

const ort::CustomOp* linear_operator();
const ort::CustomOp* embedding_operator();
const ort::CustomOp* attention_operator();

}  // namespace edgewise
