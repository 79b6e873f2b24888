// Runs a fuzz target over files and the files of folders, once each: its corpus as a plain test.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "base/file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

bool run(const std::string& path) {
    const auto bytes = storctl::read_bytes(path, 64 << 20);
    if (!bytes) {
        std::fprintf(stderr, "%s\n", bytes.error().message().c_str());
        return false;
    }
    LLVMFuzzerTestOneInput(bytes->data(), bytes->size());
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    int count = 0;
    for (int i = 1; i < argc; ++i) {
        std::vector<std::string> paths{argv[i]};
        if (std::filesystem::is_directory(argv[i])) {
            paths.clear();
            for (const auto& name : storctl::list_directory(argv[i]))
                paths.push_back(std::string(argv[i]) + "/" + name);
        }
        for (const auto& path : paths) {
            if (!run(path)) return 1;
            ++count;
        }
    }
    std::printf("%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
