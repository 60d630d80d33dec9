// Axes of a chart: limits from the data, ticks at round values, linear or logarithmic.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/host_device.hpp"
#include "lpf/report/table.hpp"

namespace lpf::plot {

enum class Scale { linear, log };

/// One axis; a limit that is NaN is computed from the data.
struct AxisOptions {
  std::string title = {};
  Scale scale = Scale::linear;
  double min = std::numeric_limits<double>::quiet_NaN();
  double max = std::numeric_limits<double>::quiet_NaN();
  /// Of a linear y in a line chart: where the first third of the x axis reaches far above the rest, the axis ends above
  /// the rest, and the chart says how far the start reaches.
  bool fit_end = false;
};

namespace detail {

inline bool usable(double value, Scale scale) {
  return std::abs(value) < 1e200 && (scale == Scale::linear || value > 1e-200);
}

/// The lower end of a band or error bar. On a log axis it is no further below the value, by a factor, than the upper end
/// is above: a value minus its deviation may be 0 or less there.
inline double lower_end(double value, double low, double high, Scale scale) {
  const bool bounded = scale == Scale::log && usable(value, scale) && usable(high, scale);
  return bounded ? std::max(low, value * (value / high)) : low;
}

/// Smallest and largest plottable value.
struct Extent {
  Scale scale = Scale::linear;
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  bool integers = true;

  void add(double value) {
    if (!usable(value, scale)) return;
    low = std::min(low, value);
    high = std::max(high, value);
    integers = integers && value == std::floor(value);
  }
  void add(std::span<const double> values) {
    for (const double v : values) add(v);
  }
};

/// A number with a minus sign instead of a hyphen.
inline std::string with_minus(const std::string& number) {
  return number.starts_with('-') ? "−" + number.substr(1) : number;
}

/// 0.05, 1200, 2×10⁻⁷: `step`, the distance between ticks, determines the number of digits.
inline std::string tick_label(double value, double step, bool scientific) {
  const auto exponent_of = [](double v) {  // of any double, 0 and infinity among them
    return std::clamp(lpf::detail::saturated<int>(std::floor(std::log10(v) + 1e-9)), -400, 400);
  };
  std::string text;
  if (!scientific || value == 0) {
    text = format_fixed(value, value == 0 ? 0 : std::clamp(-exponent_of(step), 0, 60));
  } else {
    const int exponent = exponent_of(std::abs(value));
    text = format_fixed(value / std::pow(10.0, exponent), std::clamp(exponent - exponent_of(step), 0, 15));
    text = text == "1" ? "" : text == "-1" ? "-" : text + "×";
    constexpr std::string_view raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    text += exponent < 0 ? "10⁻" : "10";
    for (const char digit : std::to_string(std::abs(exponent))) text += raised[digit - '0'];
  }
  return with_minus(text);
}

/// A scale from values to [0, 1] with its ticks.
struct Axis {
  Scale scale = Scale::linear;
  double low = 0, high = 1;
  std::vector<std::pair<double, std::string>> ticks = {};

  /// Position of a value: 0 at the lower limit, 1 at the upper. Values far outside, and those that a log axis
  /// cannot represent, are clamped to keep coordinates small.
  double at(double value) const {
    if (scale == Scale::log && value <= 0) return -10;
    const double position = scale == Scale::log
                                ? (std::log(value) - std::log(low)) / (std::log(high) - std::log(low))
                                : (value - low) / (high - low);
    return std::clamp(position, -10.0, 10.0);
  }

  /// Limits from the data and the options, extended by the fraction `pad`; about `target` round ticks.
  Axis(Extent data, const AxisOptions& options, int target, double pad) : scale(options.scale) {
    target = std::max(target, 1);
    const bool log = scale == Scale::log;
    if (!(data.low <= data.high)) data.low = log ? 1 : 0, data.high = log ? 10 : 1;
    const double size = std::max(std::abs(data.low), std::abs(data.high));
    if (log ? data.high / data.low < 1 + 1e-9 : data.high - data.low <= 1e-12 * size) {
      const double room = size == 0 || (data.integers && size < 1e6) ? 1 : size / 10;
      data.low = log ? data.low / 2 : data.low - room, data.high = log ? data.high * 2 : data.high + room;
    }
    const double room =
        log ? std::exp(pad * (std::log(data.high) - std::log(data.low))) : pad * (data.high - data.low);
    low = log ? data.low / room : data.low - room;
    high = log ? data.high * room : data.high + room;
    if (!std::isnan(options.min)) low = options.min;
    if (!std::isnan(options.max)) high = options.max;
    if (low >= high && std::isnan(options.max)) high = log ? low * 10 : low + 1;
    if (low >= high && std::isnan(options.min)) low = log ? high / 10 : high - 1;
    check(std::isfinite(high - low) && low < high && (!log || low > 0), "plot", "an axis cannot run from ",
          low, " to ", high, log ? " on a log scale" : "", ": give limits with min < max",
          log ? " and min > 0" : "");
    const double decades = log ? std::log10(high) - std::log10(low) : 0;
    if (decades > 0.7)
      log_ticks(decades, target);
    else
      linear_ticks(target, data.integers && !log);
  }

 private:
  void linear_ticks(int target, bool integers) {
    const double raw = (high - low) / target, power = std::pow(10.0, std::floor(std::log10(raw)));
    const double lead = raw / power * (1 - 1e-9);
    double step = power * (lead > 5 ? 10 : lead > 2 ? 5 : lead > 1 ? 2 : 1);
    if (integers) step = std::max(step, 1.0);
    const double size = std::max(std::abs(low), std::abs(high));
    const bool scientific = size >= 1e6 || size < 1e-3;
    // Counted, not summed: beside a large value a step may be lost in rounding.
    for (double i = std::ceil(low / step - 1e-9), n = 0; i * step <= high + 1e-9 * step && n < 50; ++i, ++n)
      ticks.emplace_back(i * step + 0.0, tick_label(i * step + 0.0, step, scientific));
  }
  void log_ticks(double decades, int target) {
    const int stride = std::max(1, static_cast<int>(std::ceil(decades / target)));
    const int first = stride * static_cast<int>(std::floor(std::log10(low) / stride));
    for (int e = first; e <= std::log10(high); e += stride) {
      for (const int m : {1, 2, 5}) {
        const double value = m * std::pow(10.0, e);
        if ((m > 1 && decades > 2) || value < low * (1 - 1e-9) || value > high * (1 + 1e-9)) continue;
        ticks.emplace_back(value, tick_label(value, std::pow(10.0, e), value < 1e-3 || value > 9e4));
      }
    }
  }
};

}  // namespace detail
}  // namespace lpf::plot
