//! The rule files that are compiled in.

use crate::diagnostic::Source;

macro_rules! shipped {
    ($($file:literal),* $(,)?) => {
        &[$((concat!("rules/", $file), include_str!(concat!("../../rules/", $file)))),*]
    };
}

/// The shipped rule files by name, in the order in which they run.
const SHIPPED: &[(&str, &str)] = shipped![
    "20-thehive4.toml",
    "21-thehive4-template.toml",
    "22-cortex.toml",
    "23-cortex-incident.toml",
    "24-thehive5.toml",
    "25-thehive4-other.toml",
    "30-nagios.toml",
    "31-icinga2.toml",
    "32-zabbix.toml",
    "33-alertmanager.toml",
    "34-grafana.toml",
    "35-prtg-languages.toml",
    "35-prtg.toml",
    "36-uptime-kuma.toml",
    "37-monit.toml",
    "38-xymon.toml",
    "39-collectd.toml",
    "40-xsoar.toml",
    "41-xsiam.toml",
    "42-misp.toml",
    "43-wazuh.toml",
    "44-splunk.toml",
    "45-veeam.toml",
    "46-munin.toml",
    "50-cron.toml",
    "51-mdadm.toml",
    "52-smartd.toml",
    "53-logwatch.toml",
    "54-apcupsd.toml",
    "55-fail2ban.toml",
    "56-aide.toml",
    "57-rkhunter.toml",
    "58-logcheck.toml",
    "59-arpwatch.toml",
    "60-backupninja.toml",
    "61-unattended-upgrades.toml",
    "62-apt-listchanges.toml",
    "63-elastalert.toml",
    "64-django.toml",
    "65-python.toml",
    "66-crashmail.toml",
    "70-checkmk.toml",
    "71-fortigate.toml",
    "72-idrac.toml",
    "73-ilo.toml",
    "74-synology.toml",
    "75-qnap.toml",
    "76-proxmox.toml",
    "77-truenas.toml",
    "78-pfsense.toml",
    "79-graylog.toml",
    "80-suricata.toml",
    "81-crowdsec.toml",
    "82-sentinel.toml",
    "83-defender.toml",
    "84-sentinelone.toml",
    "85-crowdstrike.toml",
    "86-elastic.toml",
    "87-healthchecks.toml",
    "89-marks.toml",
    "90-signl4.toml",
    "95-answers.toml",
];

/// The rule files that are compiled in, in the order in which they run.
pub fn shipped() -> Vec<Source> {
    SHIPPED.iter().map(|(path, text)| Source::new(*path, *text)).collect()
}

/// Whether `source` is a shipped one as it was shipped.
pub(super) fn is_shipped(source: &Source) -> bool {
    SHIPPED.iter().any(|(path, text)| *path == &*source.path && *text == &*source.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shipped_only_as_it_was_shipped() {
        let mut sources = shipped();
        assert!(sources.iter().all(is_shipped));
        sources[0].text = format!("{}\n", sources[0].text).into();
        assert!(!is_shipped(&sources[0]));
    }
}
