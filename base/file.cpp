#include "base/file.hpp"

#include <algorithm>
#include <climits>
#include <cstdlib>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/text.hpp"

namespace storctl {
namespace {

template <class Buffer>
Result<Buffer> read_whole(const std::string& path, size_t limit_bytes) {
    const UniqueFd fd = TRY(open_file(path, O_RDONLY));
    Buffer out;
    for (;;) {
        const size_t have = out.size();
        if (have > limit_bytes) {
            return make_error(std::errc::file_too_large,
                              fmt::format("cannot read '{}': more than {}", path, format_size(limit_bytes)));
        }
        out.resize(std::min(have + std::max<size_t>(have, 4096), limit_bytes + 1));
        const ssize_t got = ::read(fd.get(), out.data() + have, out.size() - have);
        const int error = errno;
        out.resize(have + static_cast<size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0) return out;
        if (got < 0 && error != EINTR) return errno_error(fmt::format("cannot read '{}'", path), error);
    }
}

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(fd, content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno_error(fmt::format("cannot write '{}'", path));
        content.remove_prefix(static_cast<size_t>(written));
    }
    return {};
}

}  // namespace

Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
    if (!fd) return errno_error(fmt::format("cannot open '{}'", path));
    return fd;
}

Result<std::string> read_file(const std::string& path, size_t limit_bytes) {
    return read_whole<std::string>(path, limit_bytes);
}

Result<std::vector<uint8_t>> read_bytes(const std::string& path, size_t limit_bytes) {
    return read_whole<std::vector<uint8_t>>(path, limit_bytes);
}

std::string read_attribute(const std::string& path) {
    const auto text = read_file(path);
    return text ? std::string(trim(*text)) : std::string();
}

Result<void> write_file_atomic(const std::string& path, std::string_view content, mode_t mode, bool durable) {
    std::string temporary = path + ".XXXXXX";
    const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd) return errno_error(fmt::format("cannot create a file beside '{}'", path));
    const auto fail = [&](Error error) {
        ::unlink(temporary.c_str());
        return error;
    };
    if (auto written = write_all(fd.get(), content, path); !written) return fail(std::move(written).error());
    if (::fchmod(fd.get(), mode) != 0) return fail(errno_error(fmt::format("cannot set the mode of '{}'", path)));
    if (durable && ::fsync(fd.get()) != 0) return fail(errno_error(fmt::format("cannot sync '{}'", path)));
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
        return fail(errno_error(fmt::format("cannot replace '{}'", path)));
    }
    if (durable) {
        const UniqueFd folder = TRY(open_file(dir_name(path), O_RDONLY | O_DIRECTORY));
        if (::fsync(folder.get()) != 0) return errno_error(fmt::format("cannot sync the folder of '{}'", path));
    }
    return {};
}

Result<void> make_directories(const std::string& path, mode_t mode) {
    for (size_t at = 1; at <= path.size(); ++at) {
        if (at < path.size() && path[at] != '/') continue;
        const std::string part = path.substr(0, at);
        if (::mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
            return errno_error(fmt::format("cannot create the folder '{}'", part));
        }
    }
    return {};
}

std::string base_name(std::string_view path) {
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    const auto slash = path.rfind('/');
    return std::string(slash == std::string_view::npos || path.size() == 1 ? path : path.substr(slash + 1));
}

std::string dir_name(std::string_view path) {
    const auto slash = path.rfind('/');
    if (slash == std::string_view::npos) return ".";
    return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

Result<std::string> real_path(const std::string& path) {
    char* resolved = ::realpath(path.c_str(), nullptr);
    if (resolved == nullptr) return errno_error(fmt::format("cannot resolve '{}'", path));
    std::string out(resolved);
    std::free(resolved);
    return out;
}

std::string read_link(const std::string& path) {
    std::string out(PATH_MAX, '\0');
    const ssize_t length = ::readlink(path.c_str(), out.data(), out.size());
    out.resize(static_cast<size_t>(std::max<ssize_t>(length, 0)));
    return out;
}

std::vector<std::string> list_directory(const std::string& path) {
    return read_directory(path).value_or(std::vector<std::string>());
}

Result<std::vector<std::string>> read_directory(const std::string& path) {
    std::vector<std::string> names;
    DIR* folder = ::opendir(path.c_str());
    if (folder == nullptr && errno == ENOENT) return names;
    if (folder == nullptr) return errno_error(fmt::format("cannot list the folder '{}'", path));
    errno = 0;
    while (const dirent* entry = ::readdir(folder)) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") names.push_back(name);
        errno = 0;
    }
    const int error = errno;
    ::closedir(folder);
    if (error != 0) return errno_error(fmt::format("cannot list the folder '{}'", path), error);
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace storctl
