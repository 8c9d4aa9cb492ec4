#pragma once

#include <map>
#include <memory>
#include <string>

#include "runtime/plugin/instance.h"

namespace annal {

/// The format components of this node, by name: what exports and streams may ask for.
///
/// Threads: `add` and `clear` while nobody reads; the rest from any.
class Formats {
public:
    /// Makes the format of `instance` available under its component's name.
    void add(std::shared_ptr<Instance> instance);
    void clear() { all_.clear(); }
    /// @error Errc::not_found  There is none; those that exist are named.
    [[nodiscard]] Result<std::shared_ptr<Instance>> find(const std::string& name) const;

private:
    std::map<std::string, std::shared_ptr<Instance>> all_;
};

}  // namespace annal
