// What tests ask of the stand-in for NCCL (nccl_stand_in.cpp).
#pragma once

namespace lpf::test {

/// Communicators that were made and not aborted.
int open_communicators();
/// The next collective on this thread fails with ncclSystemError.
void fail_next_collective();

}  // namespace lpf::test
