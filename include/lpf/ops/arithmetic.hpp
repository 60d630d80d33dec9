// Elementwise arithmetic with NumPy's broadcasting.
#pragma once

#include <cmath>
#include <functional>
#include <limits>

#include "lpf/ops/reduce.hpp"
#include "lpf/ops/replica_dim.hpp"

namespace lpf {

namespace detail {

/// An elementwise operation of one operand, without history.
LPF_ONCE Tensor unary(backend::Unary op, const Tensor& x, double a = 0, double b = 0, bool to_bool = false) {
  Tensor y = empty(x.shape(), {to_bool ? DType::bool_ : x.dtype(), x.device()});
  x.backend().unary(op, x.dtype(), x.numel(), x.raw(), y.raw(), a, b);
  follow_samples(y, {x});
  return y;
}

/// An elementwise operation of two operands with broadcasting, without history.
LPF_ONCE Tensor binary(const char* name, backend::Binary op, const Tensor& a, const Tensor& b,
                       bool to_bool = false, double alpha = 0) {
  check_plain(name, a);
  check_plain(name, b);
  check_same_kind(name, a, b);
  const Shape shape = a.shape() == b.shape() ? a.shape() : broadcast(name, a.shape(), b.shape());
  Tensor y = empty(shape, {to_bool ? DType::bool_ : a.dtype(), a.device()});
  if (a.impl().from_samples || b.impl().from_samples) {
    follow_broadcast(name, y, {a, b});
    follow_samples(y, {a, b});
  }
  a.backend().binary(op, view_as(a, shape), view_as(b, shape), view_of(y), alpha);
  return y;
}

/// Elementwise operations on replicated operands: replicas with replicas; with an activation, whose rows meet
/// the replicas of their slices; with a constant, any other plain tensor, the same for all replicas.
LPF_ONCE Tensor on_replicas(const char* name, const Tensor& a, const Tensor& b,
                            const std::function<Tensor(const Tensor&, const Tensor&)>& op,
                            LinearIn linear = LinearIn::none) {
  const PlanPtr plan = a.is_replicated() ? a.impl().replicas : b.impl().replicas;
  if (b.is_replicated() && is_activation(a, b)) return op(a, per_sample(b, a));
  if (a.is_replicated() && is_activation(b, a)) return op(per_sample(a, b), b);
  check_batch_mean(name, a, b, linear);
  const int rank = std::max(a.rank(), b.rank());
  const auto plain = [&](const Tensor& t) {
    check<ReplicaError>(!t.is_replicated() || t.impl().replicas == plan, name,
                        "the operands are replicas of two different perturbed passes");
    Shape shape = t.shape();
    while (shape.rank() < rank) shape = shape.prepended(1);
    return t.is_replicated() ? reshape(remove_replica_dim(t, BatchMean::kept), shape.prepended(plan->count()))
                             : reshape(t, shape.prepended(1));
  };
  return add_replica_dim(op(plain(a), plain(b)), plan);
}
LPF_ONCE bool any_replicated(const Tensor& a, const Tensor& b) {
  return a.is_replicated() || b.is_replicated();
}

LPF_ONCE void check_arithmetic(const char* operation, const Tensor& x) {
  check<DTypeError>(
      x.dtype() != DType::bool_, operation,
      "bool tensors have no arithmetic: convert with .to(float32), or use logical_and and logical_or");
}
/// True if the dtype represents the number exactly; floating dtypes accept any number.
LPF_ONCE bool holds_number(DType dtype, double s) {
  if (is_floating(dtype)) return true;
  if (!(s > -0x1p63 && s < 0x1p63) || static_cast<double>(static_cast<std::int64_t>(s)) != s) return false;
  return visit(dtype, [s](auto zero) {
    return static_cast<double>(static_cast<decltype(zero)>(static_cast<std::int64_t>(s))) == s;
  });
}
LPF_ONCE void check_whole(const char* operation, const Tensor& x, double s) {
  check<DTypeError>(is_floating(x.dtype()) || holds_number(DType::int64, s), operation, s,
                    " is not a whole number, the tensor is ", name_of(x.dtype()),
                    ": convert it with .to(float32)");
}
/// DTypeError unless an element of x can hold the number.
LPF_ONCE void check_value(const char* operation, const Tensor& x, double value) {
  check<DTypeError>(holds_number(x.dtype(), value), operation, "an element of ", name_of(x.dtype()),
                    " cannot hold ", value, ": convert the tensor with .to(float32)");
}

}  // namespace detail

/// a + b.
LPF_ONCE Tensor add(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("add", a, b, add, detail::LinearIn::sum);
  if (const auto cast = detail::cast_operands("add", a, b)) return add(cast.a, cast.b);
  detail::check_arithmetic("add", a);
  detail::check_mean_beside("add", a, b, true);
  Tensor y = detail::binary("add", backend::Binary::add, a, b);
  return record("add", std::move(y), {a, b}, [sa = a.shape(), sb = b.shape()](const Tensor& g, Need need) {
    return Grads{need[0] ? sum_to(g, sa) : Tensor(), need[1] ? sum_to(g, sb) : Tensor()};
  });
}

/// a − b.
LPF_ONCE Tensor sub(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("sub", a, b, sub, detail::LinearIn::sum);
  if (const auto cast = detail::cast_operands("sub", a, b)) return sub(cast.a, cast.b);
  detail::check_arithmetic("sub", a);
  detail::check_mean_beside("sub", a, b, true);
  Tensor y = detail::binary("sub", backend::Binary::subtract, a, b);
  return record("sub", std::move(y), {a, b}, [sa = a.shape(), sb = b.shape()](const Tensor& g, Need need) {
    return Grads{need[0] ? sum_to(g, sa) : Tensor(), need[1] ? sum_to(affine(g, -1, 0), sb) : Tensor()};
  });
}

/// a · b, elementwise.
LPF_ONCE Tensor mul(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("mul", a, b, mul, detail::LinearIn::either);
  if (const auto cast = detail::cast_operands("mul", a, b)) return mul(cast.a, cast.b);
  detail::check_arithmetic("mul", a);
  detail::check_mean_beside("mul", a, b, false);
  Tensor y = detail::binary("mul", backend::Binary::multiply, a, b);
  return record("mul", std::move(y), {a, b}, [a, b](const Tensor& g, Need need) {
    return Grads{need[0] ? sum_to(mul(g, b), a.shape()) : Tensor(),
                 need[1] ? sum_to(mul(g, a), b.shape()) : Tensor()};
  });
}

/// a / b, elementwise. Integers: DTypeError (convert first; floor division is floor(a / b)).
LPF_ONCE Tensor div(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("div", a, b, div, detail::LinearIn::first);
  if (const auto cast = detail::cast_operands("div", a, b)) return div(cast.a, cast.b);
  detail::check_floating("div", a);
  detail::check_mean_beside("div", a, b, false);
  detail::check_not_batch_mean("div", b);
  Tensor y = detail::binary("div", backend::Binary::divide, a, b);
  return record("div", std::move(y), {a, b}, [a, b](const Tensor& g, Need need) {
    // −g·(a/b)/b in this order: of small b, g/b and 1/b² overflow where the gradient is 0 or finite.
    return Grads{need[0] ? sum_to(div(g, b), a.shape()) : Tensor(),
                 need[1] ? sum_to(affine(div(mul(g, div(a, b)), b), -1, 0), b.shape()) : Tensor()};
  });
}

namespace detail {

/// −⌊a/b⌋ where remainder(a, b) = a − b·⌊a/b⌋, without history: a/b itself may be rounded to the next
/// integer. Where b is infinite and its sign another than a's, the remainder is b, and ⌊a/b⌋ is −1.
LPF_ONCE Tensor minus_quotient(const Tensor& a, const Tensor& b) {
  using backend::Binary, backend::Unary;
  const Tensor r = binary("remainder", Binary::remainder, a, b), size = unary(Unary::absolute, r);
  const Tensor infinite = binary("remainder", Binary::equal, size,
                                 full({}, std::numeric_limits<double>::infinity(), size.options()), true);
  const Tensor whole = binary("remainder", Binary::divide, binary("remainder", Binary::subtract, r, a), b);
  const Tensor slope = unary(Unary::round, whole), one = ones({}, slope.options()), y = empty_like(slope);
  y.backend().where(view_of(infinite), view_as(one, y.shape()), view_of(slope), view_of(y));
  return y;
}

}  // namespace detail

/// The remainder of a / b with the sign of b, like Python's % and NumPy's.
/// Integers: ValueError if some b is 0.
LPF_ONCE Tensor remainder(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("remainder", a, b, remainder);
  if (const auto cast = detail::cast_operands("remainder", a, b)) return remainder(cast.a, cast.b);
  detail::check_arithmetic("remainder", a);
  Tensor y = detail::binary("remainder", backend::Binary::remainder, a, b);
  check(is_floating(b.dtype()) || all(b.to(DType::bool_)).item<bool>(), "remainder",
        "division of integers by 0");
  return record("remainder", std::move(y), {a, b}, [a, b](const Tensor& g, Need need) {
    return Grads{need[0] ? sum_to(g, a.shape()) : Tensor(),
                 need[1] ? sum_to(mul(g, detail::minus_quotient(a, b)), b.shape()) : Tensor()};
  });
}

/// a·x + b with numbers a and b, which must be integers for integer x.
LPF_ONCE Tensor affine(const Tensor& x, double a, double b) {
  if (x.is_replicated())
    return detail::on_each_replica(
        x, [=](const Tensor& t) { return affine(t, a, b); }, detail::BatchMean::kept);
  detail::check_arithmetic("affine", x);
  detail::check_whole("affine", x, a);
  detail::check_whole("affine", x, b);
  return record("affine", detail::unary(backend::Unary::affine, x, a, b), {x},
                [a](const Tensor& g, Need) { return Grads{a == 1 ? g : affine(g, a, 0)}; });
}

LPF_ONCE Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
LPF_ONCE Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
LPF_ONCE Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
LPF_ONCE Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
LPF_ONCE Tensor operator+(const Tensor& x, double s) { return affine(x, 1, s); }
LPF_ONCE Tensor operator+(double s, const Tensor& x) { return affine(x, 1, s); }
LPF_ONCE Tensor operator-(const Tensor& x, double s) { return affine(x, 1, -s); }
LPF_ONCE Tensor operator-(double s, const Tensor& x) { return affine(x, -1, s); }
// A product plus −0 is the product, of either sign of 0.
LPF_ONCE Tensor operator*(const Tensor& x, double s) { return affine(x, s, -0.0); }
LPF_ONCE Tensor operator*(double s, const Tensor& x) { return affine(x, s, -0.0); }
LPF_ONCE Tensor operator/(const Tensor& x, double s) {
  check<DTypeError>(is_floating(x.dtype()), "div", "needs float32 or float64, got ", name_of(x.dtype()));
  if (x.dtype() == bfloat16) return affine(x, 1 / s, -0.0);  // s itself is not rounded
  return div(x, full({}, s, x.options()));
}
LPF_ONCE Tensor operator/(double s, const Tensor& x) { return div(full({}, s, x.options()), x); }
LPF_ONCE Tensor Tensor::operator-() const { return affine(*this, -1, -0.0); }

namespace detail {
LPF_ONCE Tensor compare(const char* name, backend::Binary op, const Tensor& a, const Tensor& b) {
  const auto off = no_grad();
  if (any_replicated(a, b))
    return on_replicas(name, a, b, [=](const Tensor& u, const Tensor& v) { return compare(name, op, u, v); });
  if (const auto cast = cast_operands("comparison", a, b)) return binary(name, op, cast.a, cast.b, true);
  return binary(name, op, a, b, true);
}
LPF_ONCE Tensor compare(const char* name, backend::Binary op, const Tensor& a, double s) {
  if (a.is_replicated()) return on_each_replica(a, [=](const Tensor& t) { return compare(name, op, t, s); });
  if (holds_number(a.dtype(), s)) return compare(name, op, a, full({}, s, a.options()));
  // Whole numbers, and s is none that their type holds: compared exactly, in int64.
  using backend::Binary;
  const bool equality = op == Binary::equal || op == Binary::not_equal, whole = std::floor(s) == s;
  const bool above = s >= 0x1p63, below = s < -0x1p63;
  if (above || below || std::isnan(s) || (equality && !whole)) {
    const bool result = op == Binary::not_equal ||
                        (above && (op == Binary::less || op == Binary::less_equal)) ||
                        (below && (op == Binary::greater || op == Binary::greater_equal));
    return full(a.shape(), result ? 1 : 0, {DType::bool_, a.device()});
  }
  const double bound = op == Binary::less || op == Binary::greater_equal ? std::ceil(s) : std::floor(s);
  return compare(name, op, a.detach().to(DType::int64), full({}, bound, {DType::int64, a.device()}));
}
}  // namespace detail

// Comparisons return bool tensors and have no gradient.
LPF_ONCE Tensor operator==(const Tensor& a, const Tensor& b) {
  return detail::compare("equal", backend::Binary::equal, a, b);
}
LPF_ONCE Tensor operator!=(const Tensor& a, const Tensor& b) {
  return detail::compare("not_equal", backend::Binary::not_equal, a, b);
}
LPF_ONCE Tensor operator<(const Tensor& a, const Tensor& b) {
  return detail::compare("less", backend::Binary::less, a, b);
}
LPF_ONCE Tensor operator<=(const Tensor& a, const Tensor& b) {
  return detail::compare("less_equal", backend::Binary::less_equal, a, b);
}
LPF_ONCE Tensor operator>(const Tensor& a, const Tensor& b) {
  return detail::compare("greater", backend::Binary::greater, a, b);
}
LPF_ONCE Tensor operator>=(const Tensor& a, const Tensor& b) {
  return detail::compare("greater_equal", backend::Binary::greater_equal, a, b);
}
LPF_ONCE Tensor operator==(const Tensor& a, double s) {
  return detail::compare("equal", backend::Binary::equal, a, s);
}
LPF_ONCE Tensor operator!=(const Tensor& a, double s) {
  return detail::compare("not_equal", backend::Binary::not_equal, a, s);
}
LPF_ONCE Tensor operator<(const Tensor& a, double s) {
  return detail::compare("less", backend::Binary::less, a, s);
}
LPF_ONCE Tensor operator<=(const Tensor& a, double s) {
  return detail::compare("less_equal", backend::Binary::less_equal, a, s);
}
LPF_ONCE Tensor operator>(const Tensor& a, double s) {
  return detail::compare("greater", backend::Binary::greater, a, s);
}
LPF_ONCE Tensor operator>=(const Tensor& a, double s) {
  return detail::compare("greater_equal", backend::Binary::greater_equal, a, s);
}
LPF_ONCE Tensor logical_and(const Tensor& a, const Tensor& b) {
  return detail::compare("logical_and", backend::Binary::logical_and, a, b);
}
LPF_ONCE Tensor logical_or(const Tensor& a, const Tensor& b) {
  return detail::compare("logical_or", backend::Binary::logical_or, a, b);
}
LPF_ONCE Tensor logical_xor(const Tensor& a, const Tensor& b) {
  return detail::compare("logical_xor", backend::Binary::logical_xor, a, b);
}
namespace detail {
LPF_ONCE Tensor test(backend::Unary op, const Tensor& x) {
  const auto off = no_grad();
  if (x.is_replicated())
    return on_each_replica(
        x, [op](const Tensor& t) { return test(op, t); }, BatchMean::kept);
  return unary(op, x, 0, 0, true);
}
}  // namespace detail
LPF_ONCE Tensor logical_not(const Tensor& x) { return detail::test(backend::Unary::logical_not, x); }
LPF_ONCE Tensor is_nan(const Tensor& x) { return detail::test(backend::Unary::is_nan, x); }
LPF_ONCE Tensor is_finite(const Tensor& x) { return detail::test(backend::Unary::is_finite, x); }

namespace detail {
/// where() with replicas among its operands. Their meeting an activation, or not, is as in arithmetic; the
/// operands are brought to that form one by one.
LPF_ONCE Tensor where_on_replicas(const Tensor& condition, const Tensor& a, const Tensor& b) {
  const Tensor* all[] = {&condition, &a, &b};
  const Tensor *replicas = nullptr, *activation = nullptr;
  for (const Tensor* t : all)
    if (t->is_replicated() && (!replicas || t->rank() > replicas->rank())) replicas = t;
  for (const Tensor* t : all)
    if (is_activation(*t, *replicas) && (!activation || t->rank() > activation->rank())) activation = t;
  const PlanPtr plan = replicas->impl().replicas;
  int rank = 0;
  for (const Tensor* t : all) {
    rank = std::max(rank, t->rank());
    check<ReplicaError>(!t->is_replicated() || t->impl().replicas == plan, "where",
                        "the operands are replicas of two different perturbed passes");
    if (!activation) check_batch_mean("where", *t, *replicas, LinearIn::none);
  }
  const auto form = [&](const Tensor& t) {
    if (activation) return t.is_replicated() ? per_sample(t, *activation) : t;
    Shape shape = t.shape();
    while (shape.rank() < rank) shape = shape.prepended(1);
    return t.is_replicated() ? reshape(remove_replica_dim(t), shape.prepended(plan->count()))
                             : reshape(t, shape.prepended(1));
  };
  const Tensor y = where(form(condition), form(a), form(b));
  return activation ? y : add_replica_dim(y, plan);
}
}  // namespace detail

/// a where `condition` (bool) is true, b elsewhere; the three are broadcast together.
LPF_ONCE Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b) || condition.is_replicated())
    return detail::where_on_replicas(condition, a, b);
  if (const auto cast = detail::cast_operands("where", a, b)) return where(condition, cast.a, cast.b);
  detail::check_same_kind("where", a, b);
  check<DTypeError>(condition.dtype() == DType::bool_, "where", "the condition is ",
                    name_of(condition.dtype()), ", needs bool");
  const Shape shape = broadcast("where", condition.shape(), broadcast("where", a.shape(), b.shape()));
  Tensor y = empty(shape, a.options());
  if (condition.impl().from_samples || a.impl().from_samples || b.impl().from_samples) {
    detail::check_not_batch_mean("where", a);
    detail::check_not_batch_mean("where", b);
    detail::follow_broadcast("where", y, {condition, a, b});
    detail::follow_samples(y, {condition, a, b});
  }
  a.backend().where(detail::view_as(condition, shape), detail::view_as(a, shape), detail::view_as(b, shape),
                    detail::view_of(y));
  return record("where", std::move(y), {a, b},
                [condition, sa = a.shape(), sb = b.shape()](const Tensor& g, Need need) {
                  const Tensor zero = zeros({}, g.options());
                  return Grads{need[0] ? sum_to(where(condition, g, zero), sa) : Tensor(),
                               need[1] ? sum_to(where(condition, zero, g), sb) : Tensor()};
                });
}

namespace detail {
LPF_ONCE Tensor extremum(const char* name, bool larger, const Tensor& a, const Tensor& b) {
  check_not_batch_mean(name, a);
  check_not_batch_mean(name, b);
  Tensor y = binary(name, larger ? backend::Binary::maximum : backend::Binary::minimum, a, b);
  return record(name, std::move(y), {a, b}, [larger, a, b](const Tensor& g, Need need) {
    const Tensor second = logical_or(larger ? a < b : b < a, is_nan(b)), zero = zeros({}, g.options());
    return Grads{need[0] ? sum_to(where(second, zero, g), a.shape()) : Tensor(),
                 need[1] ? sum_to(where(second, g, zero), b.shape()) : Tensor()};
  });
}
}  // namespace detail

/// Elementwise maximum (minimum); NaN propagates. The operand that is the result receives the gradient, of
/// equal ones (and of 0 and −0) the first.
LPF_ONCE Tensor maximum(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("maximum", a, b, maximum);
  if (const auto cast = detail::cast_operands("maximum", a, b)) return maximum(cast.a, cast.b);
  return detail::extremum("maximum", true, a, b);
}
LPF_ONCE Tensor minimum(const Tensor& a, const Tensor& b) {
  if (detail::any_replicated(a, b)) return detail::on_replicas("minimum", a, b, minimum);
  if (const auto cast = detail::cast_operands("minimum", a, b)) return minimum(cast.a, cast.b);
  return detail::extremum("minimum", false, a, b);
}

}  // namespace lpf
