#pragma once
// Result<T>: a value or an Error, with std::expected's names. Any thread.
// Error carries an errno-like code for programs and a sentence for people: what was tried, on what, what to do.

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

namespace storctl {

struct Error {
    std::errc code{};
    std::string context;

    int value() const { return static_cast<int>(code); }
    /// "context: strerror" as a user reads it; only the context where the code says nothing more.
    std::string message() const;
    /// The same error with what the caller was doing put in front.
    Error within(const std::string& what) && { return {code, what + ": " + context}; }
};

inline Error make_error(std::errc code, std::string context) { return {code, std::move(context)}; }
/// From errno as the last system call left it. `context` names the call's object.
inline Error errno_error(std::string context, int error_number = errno) {
    return {static_cast<std::errc>(error_number), std::move(context)};
}

template <class T>
class [[nodiscard]] Result {
 public:
    using value_type = T;
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    T& value() & { return std::get<0>(state_); }
    const T& value() const& { return std::get<0>(state_); }
    T&& value() && { return std::get<0>(std::move(state_)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    Error& error() & { return std::get<1>(state_); }
    const Error& error() const& { return std::get<1>(state_); }
    Error&& error() && { return std::get<1>(std::move(state_)); }
    template <class U>
    T value_or(U&& other) const& {
        return has_value() ? value() : static_cast<T>(std::forward<U>(other));
    }

 private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
    using value_type = void;
    Result() = default;
    Result(Error error) : error_(std::move(error)), failed_(true) {}

    bool has_value() const { return !failed_; }
    explicit operator bool() const { return !failed_; }
    void value() const {}
    void operator*() const {}
    Error& error() & { return error_; }
    const Error& error() const& { return error_; }
    Error&& error() && { return std::move(error_); }

 private:
    Error error_;
    bool failed_ = false;
};

}  // namespace storctl

/// Unwrap a Result or return its error. Only as the whole initialiser of a named variable or as a whole statement:
/// inside a braced aggregate the early return leaks members that were already built (g++ 12, clang 14).
#define TRY(expression)                                          \
    __extension__({                                              \
        auto try_result_ = (expression);                         \
        if (!try_result_) return std::move(try_result_).error(); \
        *std::move(try_result_);                                 \
    })
