#include "control/json_text.hpp"

#include <optional>
#include <vector>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::control {
namespace {

constexpr size_t quoted_limit = 200;

std::string shown(std::string_view foreign) {
    const bool cut = foreign.size() > quoted_limit;
    return escape_unprintable(foreign.substr(0, quoted_limit)) + (cut ? "…" : "");
}

/// Builds the value while the parser reads, so that a limit ends the reading at once. The parser itself keeps
/// its nesting on the heap, so depth costs no stack.
class Builder final : public nlohmann::json_sax<Json> {
 public:
    explicit Builder(const JsonLimits& limits) : limits_(limits) {}

    Json take() { return std::move(root_); }
    const std::string& problem() const { return problem_; }

    bool null() override { return put(Json()) != nullptr; }
    bool boolean(bool value) override { return put(Json(value)) != nullptr; }
    bool number_integer(number_integer_t value) override { return put(Json(value)) != nullptr; }
    bool number_unsigned(number_unsigned_t value) override { return put(Json(value)) != nullptr; }
    bool number_float(number_float_t value, const string_t&) override { return put(Json(value)) != nullptr; }
    bool string(string_t& value) override { return usable(value) && put(Json(std::move(value))) != nullptr; }
    bool binary(binary_t&) override { return refuse("binary data"); }
    bool start_object(size_t) override { return enter(Json::object()); }
    bool start_array(size_t) override { return enter(Json::array()); }
    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }

    bool key(string_t& name) override {
        if (!usable(name)) return false;
        if (open_.back()->contains(name)) return refuse(fmt::format("member '{}' is there twice", shown(name)));
        key_ = std::move(name);
        return true;
    }

    bool parse_error(size_t, const std::string&, const Json::exception& error) override {
        std::string_view text = error.what();
        if (const auto tag = text.find("] "); tag != std::string_view::npos) text.remove_prefix(tag + 2);
        return refuse(shown(text));
    }

 private:
    bool refuse(std::string problem) {
        problem_ = std::move(problem);
        return false;
    }

    bool usable(const std::string& text) {
        if (limits_.nul_in_strings || text.find('\0') == std::string::npos) return true;
        return refuse(fmt::format("a NUL character in the string '{}'", shown(text)));
    }

    // never null: the type lets the callers above stay one line
    Json* put(Json value) {
        if (open_.empty()) {
            root_ = std::move(value);
            return &root_;
        }
        Json& parent = *open_.back();
        if (parent.is_object()) return &(parent[std::move(key_)] = std::move(value));
        parent.push_back(std::move(value));
        return &parent.back();
    }

    bool enter(Json container) {
        if (open_.size() >= limits_.max_depth) {
            return refuse(fmt::format("nested deeper than {} levels", limits_.max_depth));
        }
        open_.push_back(put(std::move(container)));
        return true;
    }

    bool leave() {
        open_.pop_back();
        return true;
    }

    const JsonLimits& limits_;
    Json root_;
    std::vector<Json*> open_;  // a container does not move while something inside it is open
    std::string key_;
    std::string problem_;
};

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
    Builder builder(limits);
    if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
        return make_error(std::errc::bad_message, fmt::format("not usable JSON: {}", builder.problem()));
    }
    return builder.take();
}

std::string to_wire(const Json& message) {
    std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace);
    text += '\0';
    return text;
}

}  // namespace storctl::control
