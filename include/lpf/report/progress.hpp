// Progress of a long loop: a bar on a terminal, lines of text in a log.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/report/table.hpp"

namespace lpf {

/// `automatic`: a bar if the stream is a terminal that can move its cursor, lines otherwise.
enum class ProgressStyle { automatic, bar, lines, none };

namespace detail {

inline double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace detail

/// "8 s", "3 min 05 s", "2 h 07 min".
inline std::string format_duration(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  const auto total = static_cast<long>(seconds + 0.5);
  const auto two = [](long value) { return (value < 10 ? "0" : "") + std::to_string(value); };
  if (total < 60) return concat(total, " s");
  if (total < 3600) return concat(total / 60, " min ", two(total % 60), " s");
  return concat(total / 3600, " h ", two(total / 60 % 60), " min");
}

/// Options of a ProgressBar.
struct ProgressOptions {
  std::string label = {};      ///< before the bar
  std::size_t start = 0;       ///< steps done before (a resumed run), not timed
  std::FILE* stream = stderr;  ///< output stream
  ProgressStyle style = ProgressStyle::automatic;
  double line_seconds = 5;                        ///< lines: minimum seconds between two …
  double line_fraction = 0.1;                     ///< … and minimum fraction of the total
  double (*clock)() = detail::monotonic_seconds;  ///< seconds since an arbitrary origin
};

/// Displays the progress of a loop, its loss and the remaining time:
///     ProgressBar progress(steps, {.label = "LPF-SGD"});
///     for (std::size_t i = 0; i < steps; ++i) { …; progress.update(i + 1, loss); }
/// On a terminal one line, redrawn at most ten times a second; elsewhere (and with TERM=dumb) lines, each
/// `line_fraction` of the total or `line_seconds`, whichever is rarer, and one at the end. NO_COLOR is
/// respected. A total of 0 means unknown: only the count is displayed. update() is cheap enough for every
/// step; one thread at a time may call it. Write errors of the stream are ignored.
class ProgressBar {
 public:
  explicit ProgressBar(std::size_t total, ProgressOptions options = {})
      : options_(std::move(options)), total_(total), done_(options_.start), line_done_(options_.start) {
    const int file = detail::os::descriptor_of(options_.stream);
    const bool terminal = file >= 0 && detail::os::is_terminal(file) && detail::os::has_escapes(file);
    style_ = options_.style;
    if (style_ == ProgressStyle::automatic) style_ = terminal ? ProgressStyle::bar : ProgressStyle::lines;
    color_ = terminal && detail::environment("NO_COLOR").empty();
    blocks_ = detail::os::shows_utf8();
    begin_ = shown_ = options_.clock();
    if (style_ == ProgressStyle::bar) draw_bar();
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() {
    try {
      finish();
    } catch (...) {  // out of memory: the line is left as it is
    }
  }

  /// Sets the number of completed steps, clamped to the total.
  void update(std::size_t done) {
    done_ = total_ ? std::min(done, total_) : done;
    if (finished_ || style_ == ProgressStyle::none) return;
    const double now = options_.clock();
    if (style_ == ProgressStyle::bar) {
      if (now - shown_ < 0.1) return;
      draw_bar();
    } else {
      const bool far = static_cast<double>(done_ - std::min(done_, line_done_)) >=
                       options_.line_fraction * static_cast<double>(total_);
      if (!far || now - shown_ < options_.line_seconds || (total_ && done_ == total_)) return;
      put(line(now, false) + '\n');
      line_done_ = done_;
    }
    shown_ = now;
  }
  /// The same, with the loss.
  void update(std::size_t done, double loss) {
    loss_ = loss;
    has_loss_ = true;
    update(done);
  }

  /// Changes the label, from the next redraw on.
  void set_label(std::string label) { options_.label = std::move(label); }

  /// Prints a line above the bar.
  void print(std::string_view text) {
    const bool bar = style_ == ProgressStyle::bar && !finished_;
    put(concat(bar ? "\r\x1b[K" : "", text, '\n'));
    if (bar) draw_bar();
  }

  /// Draws the last state once more, with the elapsed time, and moves the cursor to a new line. The
  /// destructor calls it.
  void finish() {
    if (std::exchange(finished_, true) || style_ == ProgressStyle::none) return;
    if (style_ == ProgressStyle::bar)
      draw_bar();
    else
      put(line(options_.clock(), true));
    put("\n");
  }

 private:
  double fraction() const {
    return total_ ? static_cast<double>(done_) / static_cast<double>(total_) : finished_ ? 1.0 : 0.0;
  }
  // Rounded down: 100 % only when all steps are done.
  std::string percent() const {
    return total_ ? concat(static_cast<int>(100 * fraction()), " %") : concat(done_);
  }
  std::string time(double now, bool last) const {
    const double elapsed = now - begin_;
    if (last) return concat("in ", format_duration(elapsed));
    const auto steps = static_cast<double>(done_ - std::min(done_, options_.start));
    if (!total_ || steps <= 0) return format_duration(elapsed);
    return concat(format_duration(elapsed / steps * static_cast<double>(total_ - done_)), " left");
  }
  std::string loss() const { return "loss " + format_general(loss_, 4); }

  std::string line(double now, bool last) const {
    std::string text = options_.label.empty() ? "" : options_.label + ": ";
    text += percent() + ", ";
    if (has_loss_) text += loss() + ", ";
    return text + time(now, last);
  }

  void draw_bar() {
    const double now = options_.clock();
    std::string right = percent();
    right.insert(0, right.size() < 5 ? 5 - right.size() : 0, ' ');
    if (has_loss_) right += "  " + loss();
    right += "  " + time(now, finished_);
    const std::string left = options_.label.empty() ? "" : options_.label + "  ";
    // One column stays empty: a full line would wrap and not be erased.
    const std::size_t columns = terminal_columns() - 1;
    const std::size_t taken = display_width(left) + display_width(right) + 2;
    const std::size_t length = total_ && columns > taken ? std::min<std::size_t>(30, columns - taken) : 0;
    std::string text = "\r" + std::string(clip_to_width(left, columns));
    if (length >= 5) text += bar(length) + "  ";
    text += clip_to_width(right, columns - std::min(columns, display_width(left)));
    put(text + "\x1b[K");
  }

  std::string bar(std::size_t length) const {
    std::string out;
    if (!blocks_) {
      const auto full = static_cast<std::size_t>(fraction() * static_cast<double>(length - 2));
      return '[' + std::string(full, '=') + std::string(length - 2 - full, ' ') + ']';
    }
    constexpr std::string_view eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const auto filled = static_cast<std::size_t>(fraction() * 8 * static_cast<double>(length));
    const std::size_t used = (filled + 7) / 8;
    if (color_) out += "\x1b[36m";
    for (std::size_t i = 0; i < filled / 8; ++i) out += "█";
    out += eighths[filled % 8];
    if (color_) out += "\x1b[90m";
    for (std::size_t i = used; i < length; ++i) out += "░";
    if (color_) out += "\x1b[0m";
    return out;
  }

  std::size_t terminal_columns() const {
    const int file = detail::os::descriptor_of(options_.stream);
    const int columns = file >= 0 ? detail::os::columns_of(file) : 0;
    return columns > 1 ? static_cast<std::size_t>(columns) : 80;
  }
  void put(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), options_.stream);
    std::fflush(options_.stream);
  }

  ProgressOptions options_;
  ProgressStyle style_ = ProgressStyle::lines;
  std::size_t total_, done_, line_done_;
  double begin_ = 0, shown_ = 0, loss_ = 0;
  bool has_loss_ = false, color_ = false, blocks_ = false, finished_ = false;
};

}  // namespace lpf
