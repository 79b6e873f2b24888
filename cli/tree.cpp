// Two passes: the first makes a row of each branch, with the lines that lead to it; the second knows all widths.
#include "cli/tree.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/text.hpp"

namespace storctl::cli {
namespace {

constexpr size_t gap = 2;
constexpr size_t narrowest_remark = 20;

struct Strokes {
    std::string_view fork, last, pass, blank;
};
constexpr Strokes box_drawing{"├─ ", "└─ ", "│  ", "   "};
constexpr Strokes ascii{"|- ", "`- ", "|  ", "   "};

struct Row {
    std::string lead;        ///< the strokes before the name
    std::string lead_below;  ///< before what belongs to it on further lines
    std::string name;
    std::string text;
    const Branch* branch;

    size_t name_end() const { return display_width(lead) + display_width(name); }
    size_t left_end() const { return text.empty() ? name_end() : name_end() + gap + display_width(text); }
};

class Writer {
 public:
    Writer(const TreeHeadings& headings, const Screen& screen)
        : headings_(headings), screen_(screen), strokes_(screen.utf8 ? box_drawing : ascii) {}

    std::string write(const std::vector<Branch>& roots) {
        const auto widths = widths_of(roots);
        for (const Branch& root : roots) add(root, "", "", widths);
        measure();
        std::string out = line({.name = headings_.name, .branch = nullptr}, headings_.count, headings_.state, {});
        out = styled(std::string(trim_end(out)), Style::heading, screen_.colour) + "\n";
        for (const Row& row : rows_) out += lines(row);
        return out;
    }

 private:
    static std::string_view trim_end(std::string_view text) { return text.substr(0, text.find_last_not_of(' ') + 1); }

    static std::vector<size_t> widths_of(const std::vector<Branch>& siblings) {
        std::vector<size_t> out;
        for (const Branch& branch : siblings) {
            out.resize(std::max(out.size(), branch.names.size()), 0);
            for (size_t i = 0; i < branch.names.size(); ++i) {
                out[i] = std::max(out[i], display_width(printable(branch.names[i])));
            }
        }
        return out;
    }

    void add(const Branch& branch, const std::string& lead, const std::string& lead_below,
             const std::vector<size_t>& widths) {
        std::string name;
        for (size_t i = 0; i < widths.size(); ++i) {
            const std::string part = i < branch.names.size() ? printable(branch.names[i]) : "";
            name += (i == 0 || widths[i] == 0 ? "" : std::string(gap, ' ')) + part +
                    std::string(widths[i] - display_width(part), ' ');
        }
        const std::string text = printable(branch.text);
        if (text.empty()) name.erase(trim_end(name).size());
        const std::string further = lead_below + std::string(branch.below.empty() ? strokes_.blank : strokes_.pass);
        rows_.push_back({lead, further, std::move(name), text, &branch});
        const auto widths_below = widths_of(branch.below);
        for (const Branch& below : branch.below) {
            const bool last = &below == &branch.below.back();
            add(below, lead_below + std::string(last ? strokes_.last : strokes_.fork),
                lead_below + std::string(last ? strokes_.blank : strokes_.pass), widths_below);
        }
    }

    void measure() {
        size_t left_needed = display_width(headings_.name), state = display_width(headings_.state);
        left_ = left_needed;
        count_ = display_width(headings_.count);
        for (const Row& row : rows_) {
            left_needed = std::max(left_needed, row.name_end());
            left_ = std::max(left_, row.left_end());
            count_ = std::max(count_, display_width(row.branch->count));
            state = std::max(state, display_width(printable(row.branch->state.text)));
        }
        if (!screen_.columns) return;
        const size_t right = gap + count_ + gap + state;
        const size_t room = *screen_.columns > right ? *screen_.columns - right : 0;
        left_ = std::clamp(room, left_needed, std::max(left_needed, left_));
    }

    /// Without styles and without the newline.
    std::string line(const Row& row, const std::string& count, const std::string& state,
                     const std::string& remarks) const {
        std::string out = row.lead + row.name;
        const size_t width = display_width(out);
        if (!row.text.empty() && left_ > width + gap) out += std::string(gap, ' ') + cut(row.text, left_ - width - gap);
        out += std::string(left_ - std::min(left_, display_width(out)) + gap, ' ');
        out += std::string(count_ - display_width(count), ' ') + count + std::string(gap, ' ') + state;
        if (!remarks.empty()) out += (state.empty() ? "" : std::string(gap, ' ')) + remarks;
        return out;
    }

    std::string lines(const Row& row) const {
        const Branch& branch = *row.branch;
        const std::string state = printable(branch.state.text), remarks = printable(join(branch.remarks, "; "));
        const std::string whole = line(row, branch.count, state, remarks);
        const bool fits = !screen_.columns || remarks.empty() || display_width(whole) <= *screen_.columns;
        const std::string first = line(row, branch.count, "", "");
        std::string out;
        if (branch.dim) {
            out = styled(trim_end(fits ? whole : line(row, branch.count, state, "")), Style::dim, screen_.colour);
        } else {
            out = first + styled(state, branch.state.style, screen_.colour);
            if (fits && !remarks.empty()) out += (state.empty() ? "" : std::string(gap, ' ')) + remarks;
            out = std::string(trim_end(out));
        }
        out += '\n';
        return fits ? out : out + below(row);
    }

    /// The remarks on lines of their own, broken between words.
    std::string below(const Row& row) const {
        const std::string lead = row.lead_below + std::string(gap, ' ');
        const size_t used = display_width(lead);
        const size_t room = *screen_.columns > used + narrowest_remark ? *screen_.columns - used : narrowest_remark;
        std::string out;
        for (const auto& remark : row.branch->remarks) {
            for (const auto& part : wrap(printable(remark), room)) {
                out += lead + styled(part, Style::dim, screen_.colour) + "\n";
            }
        }
        return out;
    }

    static std::vector<std::string> wrap(const std::string& text, size_t columns) {
        std::vector<std::string> out(1);
        for (const auto& word : split(text, ' ')) {
            std::string& current = out.back();
            if (!current.empty() && display_width(current) + 1 + display_width(word) > columns) {
                out.push_back(word);
            } else {
                current += (current.empty() ? "" : " ") + word;
            }
        }
        return out;
    }

    const TreeHeadings& headings_;
    const Screen& screen_;
    const Strokes& strokes_;
    std::vector<Row> rows_;
    size_t left_ = 0, count_ = 0;
};

}  // namespace

std::string format_tree(const std::vector<Branch>& roots, const TreeHeadings& headings, const Screen& screen) {
    return Writer(headings, screen).write(roots);
}

}  // namespace storctl::cli
