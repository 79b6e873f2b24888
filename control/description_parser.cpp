#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "base/text.hpp"
#include "control/description.hpp"

namespace storctl::control {
namespace {

constexpr size_t max_type_depth = 32;

bool letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool word_character(char c) { return letter(c) || digit(c) || c == '_' || c == '-' || c == '.'; }

/// [A-Za-z]([_]?[A-Za-z0-9])*
bool is_field_name(std::string_view word) {
    if (word.empty() || !letter(word.front()) || word.back() == '_') return false;
    if (word.find("__") != std::string_view::npos) return false;
    return std::all_of(word.begin(), word.end(), [](char c) { return letter(c) || digit(c) || c == '_'; });
}

/// [A-Z][A-Za-z0-9]*
bool is_member_name(std::string_view word) {
    if (word.empty() || word.front() < 'A' || word.front() > 'Z') return false;
    return std::all_of(word.begin(), word.end(), [](char c) { return letter(c) || digit(c); });
}

/// Two or more parts joined by dots, each of letters, digits and inner dashes; the first begins with a
/// letter.
bool is_interface_name(std::string_view word) {
    const auto parts = split(word, '.');
    if (parts.size() < 2 || !letter(word.front())) return false;
    return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
        if (part.empty() || part.front() == '-' || part.back() == '-') return false;
        return std::all_of(part.begin(), part.end(), [](char c) { return letter(c) || digit(c) || c == '-'; });
    });
}

class Parser {
 public:
    explicit Parser(std::string_view text) : text_(text) {}

    Result<Description> run() {
        Description out;
        out.text = std::string(text_);
        TRY(keyword("interface"));
        const auto name = word();
        if (!is_interface_name(name)) return wrong("an interface name such as 'org.example.ftl'", name);
        out.name = std::string(name);
        while (!at_end()) TRY(member(out));
        TRY(check_references(out));
        return out;
    }

 private:
    struct Reference {
        std::string name;
        size_t line;
    };

    Result<void> member(Description& out) {
        const auto kind = word();
        if (kind != "type" && kind != "method" && kind != "error") return wrong("'type', 'method' or 'error'", kind);
        const auto found = word();
        if (!is_member_name(found)) return wrong(fmt::format("the {}'s name, beginning with a capital", kind), found);
        std::string name(found);
        if (out.types.contains(name) || out.methods.contains(name) || out.errors.contains(name)) {
            return fail(fmt::format("'{}' is defined twice", name));
        }
        Type first = TRY(parentheses(0));
        if (kind == "type") {
            out.types.emplace(std::move(name), std::move(first));
            return {};
        }
        if (first.kind != Type::Kind::structure)
            return fail(fmt::format("{} '{}' wants fields with types", kind, name));
        if (kind == "error") {
            out.errors.emplace(std::move(name), std::move(first));
            return {};
        }
        TRY(symbol("->"));
        Type second = TRY(parentheses(0));
        if (second.kind != Type::Kind::structure) return fail(fmt::format("method '{}' wants fields with types", name));
        out.methods.emplace(std::move(name), MethodDescription{std::move(first), std::move(second)});
        return {};
    }

    Result<Type> type(size_t depth) {
        if (depth > max_type_depth) return fail(fmt::format("types nested deeper than {} levels", max_type_depth));
        if (take("?")) {
            if (peek() == '?') return fail("'?' twice");
            Type inner = TRY(type(depth + 1));
            inner.nullable = true;
            return inner;
        }
        if (take("[")) {
            Type out{.kind = Type::Kind::array};
            if (!take("]")) {
                TRY(keyword("string"));
                TRY(symbol("]"));
                out.kind = Type::Kind::dictionary;
            }
            Type element = TRY(type(depth + 1));
            out.element.push_back(std::move(element));
            return out;
        }
        if (peek() == '(') return parentheses(depth + 1);
        return simple_type();
    }

    Result<Type> simple_type() {
        const auto name = word();
        if (name == "bool") return Type{.kind = Type::Kind::boolean};
        if (name == "int") return Type{.kind = Type::Kind::integer};
        if (name == "float") return Type{.kind = Type::Kind::number};
        if (name == "string") return Type{.kind = Type::Kind::string};
        if (name == "object") return Type{.kind = Type::Kind::object};
        if (!is_member_name(name)) return wrong("a type", name);
        references_.push_back({std::string(name), line_});
        return Type{.kind = Type::Kind::named, .name = std::string(name)};
    }

    /// A structure, or an enumeration when the names have no types.
    Result<Type> parentheses(size_t depth) {
        if (depth > max_type_depth) return fail(fmt::format("types nested deeper than {} levels", max_type_depth));
        TRY(symbol("("));
        Type out;
        if (take(")")) return out;
        for (bool first = true;; first = false) {
            const auto found = word();
            if (!is_field_name(found)) return wrong("a field's name", found);
            std::string name(found);
            if (has(out, name)) return fail(fmt::format("'{}' is there twice", name));
            const bool typed = take(":");
            if (first && !typed) out.kind = Type::Kind::enumeration;
            if (typed != (out.kind == Type::Kind::structure)) return fail(fmt::format("expected ':' after '{}'", name));
            if (typed) {
                Type field_type = TRY(type(depth + 1));
                out.fields.push_back({std::move(name), std::move(field_type)});
            } else {
                out.values.push_back(std::move(name));
            }
            if (take(")")) return out;
            TRY(symbol(","));
        }
    }

    static bool has(const Type& type, std::string_view name) {
        return std::any_of(type.fields.begin(), type.fields.end(), [&](const Field& f) { return f.name == name; }) ||
               std::find(type.values.begin(), type.values.end(), name) != type.values.end();
    }

    Result<void> check_references(const Description& out) {
        for (const auto& reference : references_) {
            if (out.types.contains(reference.name)) continue;
            line_ = reference.line;
            return fail(fmt::format("type '{}' is not defined", reference.name));
        }
        return {};
    }

    void skip_blank() {
        while (at_ < text_.size()) {
            if (text_[at_] == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
            } else if (blank(text_[at_])) {
                line_ += text_[at_++] == '\n' ? 1 : 0;
            } else {
                return;
            }
        }
    }
    bool at_end() {
        skip_blank();
        return at_ == text_.size();
    }
    char peek() { return at_end() ? '\0' : text_[at_]; }
    bool take(std::string_view symbol) {
        skip_blank();
        if (!text_.substr(at_).starts_with(symbol)) return false;
        at_ += symbol.size();
        return true;
    }
    std::string_view word() {
        skip_blank();
        const size_t start = at_;
        while (at_ < text_.size() && word_character(text_[at_])) ++at_;
        return text_.substr(start, at_ - start);
    }
    Result<void> symbol(std::string_view wanted) {
        if (!take(wanted)) return wrong(fmt::format("'{}'", wanted), {});
        return {};
    }
    Result<void> keyword(std::string_view wanted) {
        if (const auto found = word(); found != wanted) return wrong(fmt::format("'{}'", wanted), found);
        return {};
    }

    Error fail(const std::string& what) const {
        return make_error(std::errc::invalid_argument, fmt::format("line {}: {}", line_, what));
    }
    Error wrong(const std::string& wanted, std::string_view found) {
        if (found.empty() && at_end()) return fail(fmt::format("expected {}, not the end", wanted));
        if (found.empty()) found = text_.substr(at_, 1);
        return fail(fmt::format("expected {}, not '{}'", wanted, escape_unprintable(found.substr(0, 100))));
    }

    std::string_view text_;
    size_t at_ = 0;
    size_t line_ = 1;
    std::vector<Reference> references_;
};

}  // namespace

Result<Description> parse_description(std::string_view text) { return Parser(text).run(); }

}  // namespace storctl::control
