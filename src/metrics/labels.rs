//! The labels of metrics: one type for each set of label names.

use prometheus_client::encoding::EncodeLabelSet;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($label:ident: $kind:ty),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[expect(missing_docs, reason = "label names are the contract's")]
        pub struct $name { $(pub $label: $kind),+ }
    };
}

labels!(
    /// `{account}`
    OfAccount { account: String }
);
labels!(
    /// `{account,state,phase}`
    OfQueue { account: String, state: &'static str, phase: &'static str }
);
labels!(
    /// `{account,kind,outcome,error_class}`
    OfAttempt { account: String, kind: &'static str, outcome: &'static str, error_class: &'static str }
);
labels!(
    /// `{account,kind,status}`
    OfRequest { account: String, kind: &'static str, status: String }
);
labels!(
    /// `{account,kind}`
    OfCall { account: String, kind: &'static str }
);
labels!(
    /// `{account,reason}`
    OfPause { account: String, reason: &'static str }
);
labels!(
    /// `{account,change}`
    OfChange { account: String, change: &'static str }
);
labels!(
    /// `{account,outcome}`
    OfReconcile { account: String, outcome: &'static str }
);
labels!(
    /// `{state}`
    OfState { state: &'static str }
);
labels!(
    /// `{kind}`
    OfKind { kind: &'static str }
);
labels!(
    /// `{version,revision}`
    OfBuild { version: &'static str, revision: &'static str }
);
