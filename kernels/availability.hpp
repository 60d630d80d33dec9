// Checks whether a GPU of this machine can be used; if not, the error has the reason and the remedy.
#pragma once

#include <string>

#include "lpf/core/device.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {

/// Versions in CUDA's encoding: 13010 is 13.1.
struct Machine {
  int driver;        // the newest CUDA version that the driver supports; 0 without a driver
  int runtime;       // of this build
  int devices;       // 0 also if the query failed
  std::string says;  // CUDA's message if the query failed
  int major, minor;  // compute capability of the first GPU
  std::string name;  // of the first GPU
};

inline std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

/// Throws DeviceError unless GPU `index` of such a machine can be used.
inline void check_usable(int index, const Machine& m) {
  const Device device{DeviceType::cuda, index};
  const auto refuse = [&](const auto&... why) {
    fail<DeviceError>("device", device, " is not available: ", why...);
  };
  if (m.driver == 0) refuse("this machine has no NVIDIA driver (is nvidia-smi there, and what does it say?)");
  if (m.driver / 1000 < m.runtime / 1000)
    refuse("the NVIDIA driver serves CUDA ", version_text(m.driver), " and this program was built with CUDA ",
           version_text(m.runtime), ": update the driver, or build with the older toolkit");
  if (m.devices == 0)
    refuse("the NVIDIA driver is there, but no GPU",
           m.says.empty() ? std::string() : concat(" (CUDA says: ", m.says, ")"),
           ": look at CUDA_VISIBLE_DEVICES, and, in a container, whether it was given the GPU");
  if (index < 0 || index >= m.devices)
    refuse("this machine has ", m.devices, m.devices == 1 ? " GPU" : " GPUs", ", counted from 0");
  if (index > 0)
    refuse("a process works on its first GPU: run it with CUDA_VISIBLE_DEVICES=", index,
           " and ask for cuda:0");
  if (m.major * 10 + m.minor < 75)
    refuse(m.name, " has compute capability ", m.major, ".", m.minor, ", and LPF needs 7.5 (Turing, 2018)");
}

}  // namespace lpf::cuda
