// How many threads the kernels that this thread makes from now on are to use: ONNX Runtime makes a session's kernels on
// the thread that opens the session, and passes no setting of ours along.
#pragma once

namespace edgewise {

int current_threads();
void set_current_threads(int threads);

}  // namespace edgewise
