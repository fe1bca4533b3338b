//! The report of `rules test` in the XML of JUnit, as CI systems read it: a suite for each rule file, a case
//! for each example.

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::case::{Case, Verdict};

/// The whole document.
///
/// # Errors
/// It cannot be written as XML.
pub(super) fn report(cases: &[Case]) -> Result<String, SerializeError> {
    let mut report = Report::new("smtp2signl4 rules");
    for of_file in cases.chunk_by(|a, b| a.file == b.file) {
        let mut suite = TestSuite::new(of_file[0].file.to_string());
        suite.add_test_cases(of_file.iter().map(|case| {
            let mut test = TestCase::new(case.name.clone(), status(&case.verdict));
            test.set_classname(case.file.to_string()).set_time(case.took);
            test
        }));
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn status(verdict: &Verdict) -> TestCaseStatus {
    let failed = |what: String, detail: &str| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(what).set_description(detail);
        status
    };
    match verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message("its mail is in the source tree");
            status
        }
        Verdict::Failed(found) => {
            let fields: Vec<&str> = found.iter().map(|deviation| deviation.field.as_str()).collect();
            let errors: Vec<String> =
                found.iter().map(|deviation| deviation.diagnostic.to_string()).collect();
            failed(format!("otherwise: {}", fields.join(", ")), &errors.join("\n"))
        }
        Verdict::Unreadable(why) => failed("the mail cannot be read".to_owned(), why),
    }
}
