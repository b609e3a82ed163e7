// A workload as JSON lines, one turn each, in an order and a form that depend on nothing but the
// workload: to look at, to compare by hash, to keep beside a report. Times are whole microseconds.
//
//   {"program":0,"turn":0,"start_us":1500000,"after_us":0,"tenant":"default","session":"",
//    "offline":false,"kept_tokens":0,"runs":[[0,600],[7,150]],"completion_tokens":40,"tool":null}
#pragma once

#include <functional>
#include <string_view>

#include "workload/workload.h"

namespace holdfast {

// Gives `sink` every line, with its end.
void WriteWorkloadLines(const Workload& workload,
                        const std::function<void(std::string_view)>& sink);

}  // namespace holdfast
