#include "daemon/block_place.hpp"

#include <vector>

#include "base/file.hpp"

namespace storctl {

std::set<std::string> block_syspaths(const std::string& sys, const std::string& block) {
    std::set<std::string> out;
    std::vector<std::string> next{block};
    while (!next.empty()) {
        const std::string name = std::move(next.back());
        next.pop_back();
        const auto path = real_path(sys + "/class/block/" + name);
        if (!path || !out.insert(*path).second) continue;
        for (auto& lower : list_directory(*path + "/slaves")) next.push_back(std::move(lower));
    }
    return out;
}

}  // namespace storctl
